"""One image: bytes -> pixels, its file type, the cache of pixels, augmentation."""
