"""Kill a command at random moments, resume it until it ends, compare it with one that ran through.

    make crash                                        cvtrain, 200 kills of each of three commands
    PYTHONPATH=tests python -m robustness.crash --help           less, more, or one of them
    PYTHONPATH=tests python -m robustness.crash.stock --help     plain Keras with its own callbacks

A *chain* is one run: it is started, killed, resumed, killed ... until an attempt outlives the
moment at which it was to be killed, or there were three kills. The moments are drawn evenly over
the whole life of a command that is not killed, from its first import to its last write, so many
fall into what happens on a resume. All draws follow from seed and number of the chain. What a chain
leaves is then compared with what the uninterrupted run left.

A chain that has failed keeps its folder, with the output of every attempt.
"""
