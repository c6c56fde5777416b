/* Stands between a process and the C library (LD_PRELOAD), counts what changes the disk below some
 * folders, and does to one of these operations what `interpose` says. See interposed.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, FAIL_ONCE, FAIL_FROM_THEN_ON, KILL_BEFORE, KILL_AFTER, KILL_AMID };

static char root[PATH_MAX]; /* only below this folder; "" before anything is asked for */
static int mode, code, journal = -1;
static long wanted, count;

/* Not exported under a common name: Python finds it by this one. */
void interpose(const char *below, int how, long at, int with, int journal_handle) {
    strncpy(root, below, sizeof root - 1);
    mode = how, wanted = at, code = with, journal = journal_handle, count = 0;
}

static int is_below(const char *path) {
    size_t length = strlen(root);
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static const char *absolute(int folder, const char *path, char *buffer) {
    if (path[0] == '/') return path;
    char link[64] = "/proc/self/cwd";
    if (folder != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    if (length < 0) length = 0;
    snprintf(buffer + length, PATH_MAX - length, "/%s", path);
    return buffer;
}

static const char *path_of(int handle, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

static int is_there(const char *path) {
    return !syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Does a full disk refuse this? It still lets files be renamed and removed. */
static int takes_room(const char *name) {
    return !strcmp(name, "create") || !strcmp(name, "write") || !strcmp(name, "mkdir") ||
           !strcmp(name, "fsync");
}

/* What becomes of this operation: 0 go on, -1 fail, 1 die when it is done, 2 die in the middle. */
static int fate(const char *name, const char *path, const char *other) {
    if (!is_below(path) && !(other && is_below(other))) return 0;
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (mode == KILL_BEFORE && number == wanted) die();
    char line[2 * PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s\t%s\t%s\n", name, path, other ? other : "");
    if (journal >= 0) syscall(SYS_write, journal, line, length);
    if (mode == FAIL_ONCE && number == wanted) return errno = code, -1;
    int is_full = code == ENOSPC || code == EDQUOT || code == EFBIG;
    if (mode == FAIL_FROM_THEN_ON && number >= wanted && (!is_full || takes_room(name)))
        return errno = code, -1;
    if (number != wanted) return 0;
    return mode == KILL_AFTER ? 1 : mode == KILL_AMID ? 2 : 0;
}

#define DONE(fated, result) __typeof__(result) answer = (result); if (fated > 0) die(); return answer

static int opens(int folder, const char *path, int flags, int mode_bits) {
    char buffer[PATH_MAX];
    int fated = 0;
    if ((flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT) {
        const char *whole = absolute(folder, path, buffer);
        const char *name = !is_there(whole) ? "create" : flags & O_TRUNC ? "empty" : "open";
        if ((fated = fate(name, whole, NULL)) < 0) return -1;
    }
    DONE(fated, (int)syscall(SYS_openat, folder, path, flags, mode_bits));
}

#define OPEN(name, folder_parameter, folder)                       \
    int name(folder_parameter const char *path, int flags, ...) {  \
        va_list rest;                                              \
        va_start(rest, flags);                                     \
        int bits = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0; \
        va_end(rest);                                              \
        return opens(folder, path, flags, bits);                   \
    }
#define FOLDER int folder,
OPEN(open, , AT_FDCWD)
OPEN(open64, , AT_FDCWD)
OPEN(openat, FOLDER, folder)
OPEN(openat64, FOLDER, folder)

ssize_t write(int handle, const void *bytes, size_t size) {
    char buffer[PATH_MAX];
    int fated = root[0] ? fate("write", path_of(handle, buffer), NULL) : 0;
    if (fated < 0) return -1;
    if (fated == 2) size /= 2;
    DONE(fated, syscall(SYS_write, handle, bytes, size));
}

ssize_t pwrite64(int handle, const void *bytes, size_t size, off_t at) {
    char buffer[PATH_MAX];
    int fated = root[0] ? fate("write", path_of(handle, buffer), NULL) : 0;
    if (fated < 0) return -1;
    if (fated == 2) size /= 2;
    DONE(fated, syscall(SYS_pwrite64, handle, bytes, size, at));
}
ssize_t pwrite(int handle, const void *bytes, size_t size, off_t at) {
    return pwrite64(handle, bytes, size, at);
}

ssize_t writev(int handle, const struct iovec *parts, int number) {
    char buffer[PATH_MAX];
    int fated = root[0] ? fate("write", path_of(handle, buffer), NULL) : 0;
    if (fated < 0) return -1;
    DONE(fated, syscall(SYS_writev, handle, parts, number));
}

#define ON_HANDLE(function, name, parameters, ...)                              \
    int function(int handle parameters) {                                       \
        char buffer[PATH_MAX];                                                  \
        int fated = root[0] ? fate(name, path_of(handle, buffer), NULL) : 0;    \
        if (fated < 0) return -1;                                               \
        DONE(fated, (int)syscall(__VA_ARGS__));                                 \
    }
#define LENGTH , off_t length
#define BITS , mode_t bits
ON_HANDLE(fsync, "fsync", , SYS_fsync, handle)
ON_HANDLE(fdatasync, "fsync", , SYS_fdatasync, handle)
ON_HANDLE(ftruncate, "write", LENGTH, SYS_ftruncate, handle, length)
ON_HANDLE(ftruncate64, "write", LENGTH, SYS_ftruncate, handle, length)
ON_HANDLE(fchmod, "chmod", BITS, SYS_fchmod, handle, bits)

int close(int handle) {
    char buffer[PATH_MAX];
    int fated = 0;
    if (root[0] && (syscall(SYS_fcntl, handle, F_GETFL) & O_ACCMODE) != O_RDONLY)
        fated = fate("close", path_of(handle, buffer), NULL);
    int result = (int)syscall(SYS_close, handle);
    if (fated > 0) die();
    return fated < 0 ? (errno = code, -1) : result; /* closed all the same, as Linux does it */
}

#define ON_PATH(function, name, parameters, path, folder, ...)              \
    int function(parameters) {                                              \
        char buffer[PATH_MAX];                                              \
        int fated = fate(name, absolute(folder, path, buffer), NULL);       \
        if (fated < 0) return -1;                                           \
        DONE(fated, (int)syscall(__VA_ARGS__));                             \
    }
#define COMMA ,
ON_PATH(unlink, "unlink", const char *path, path, AT_FDCWD, SYS_unlinkat, AT_FDCWD, path, 0)
ON_PATH(unlinkat, "unlink", int folder COMMA const char *path COMMA int flags, path, folder,
        SYS_unlinkat, folder, path, flags)
ON_PATH(rmdir, "rmdir", const char *path, path, AT_FDCWD, SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)
ON_PATH(mkdir, "mkdir", const char *path COMMA mode_t bits, path, AT_FDCWD,
        SYS_mkdirat, AT_FDCWD, path, bits)
ON_PATH(mkdirat, "mkdir", int folder COMMA const char *path COMMA mode_t bits, path, folder,
        SYS_mkdirat, folder, path, bits)
ON_PATH(chmod, "chmod", const char *path COMMA mode_t bits, path, AT_FDCWD,
        SYS_fchmodat, AT_FDCWD, path, bits)
ON_PATH(truncate, "write", const char *path COMMA off_t length, path, AT_FDCWD,
        SYS_truncate, path, length)

static int renames(int from, const char *path, int to, const char *target, unsigned flags) {
    char buffer[PATH_MAX], other[PATH_MAX];
    const char *whole = absolute(to, target, other);
    const char *name = flags & 2 ? "exchange" : is_there(whole) ? "replace" : "rename";
    int fated = fate(name, absolute(from, path, buffer), whole);
    if (fated < 0) return -1;
    DONE(fated, (int)syscall(SYS_renameat2, from, path, to, target, flags));
}
int rename(const char *path, const char *target) {
    return renames(AT_FDCWD, path, AT_FDCWD, target, 0);
}
int renameat(int from, const char *path, int to, const char *target) {
    return renames(from, path, to, target, 0);
}
int renameat2(int from, const char *path, int to, const char *target, unsigned flags) {
    return renames(from, path, to, target, flags);
}
