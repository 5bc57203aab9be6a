/* A disk that fails, dies and remembers: loaded before everything else (LD_PRELOAD) by the tests of reliability.
 *
 * Every system call that changes files below the folder RAPPORT_FAULT_FOLDER passes here: writes, syncs, lengths, names. So
 * does every write to the file that RAPPORT_FAULT_ACKS names, by which a child acknowledges: it is the call "ack", the one
 * moment between a commit and its acknowledgement that has no call of its own on a disk. Each is counted; what happens at the
 * n-th is a rule, read anew from the file RAPPORT_FAULT_RULE at every call, so that a test can break the disk under a server
 * that runs, and mend it again. A rule is one line; while the file is empty or not there nothing happens:
 *
 *     <action> <calls> <n>
 *
 * calls is "*" or a list, as "fsync,fdatasync", of: write (writev), pwrite (pwritev), dwrite (any write to an O_DSYNC
 * descriptor), fsync, fdatasync, ftruncate (truncate), fallocate, rename, unlink (rmdir), mkdir, create, open (for writing),
 * ack. n counts calls that the rule is about, from 1, since it was first seen. Actions:
 *
 *     kill-before, kill-after          SIGKILL before the n-th call does anything, or after it has
 *     eio, enospc, erofs               the n-th call fails so
 *     eio-on, enospc-on, erofs-on      it and all after it do
 *     short                            the n-th write writes only half, to a multiple of 512 bytes
 *
 * With RAPPORT_FAULT_TRACE every call that succeeded is appended to that file, in the order in which they were done, with its
 * data: what a power cut may leave is made of it (tests/powercut.py). A record is a line and the data:
 *
 *     <call> <d or -> <offset> <length> <path>[ -> <new path>]\n
 *
 * d is a descriptor that is synchronous by itself (O_DSYNC). One lock holds a call and its record together, so the order is
 * the true one. Calls go to the kernel by number: nothing is looked up, and nothing is allocated; buffers are on the stack.
 * What is written through a map is not seen: LMDB does that with lock.mdb alone.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_PARTS 1024 /* IOV_MAX */
#define TRACE_FD 900    /* out of the way of whoever counts descriptors */

enum action { NONE, KILL_BEFORE, KILL_AFTER, FAIL, SHORT };

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX], acks[PATH_MAX], rule_file[PATH_MAX];
static size_t folder_length;
static int trace = -1;
static char rule[256]; /* the rule that `matched` counts for */
static long matched;

__attribute__((constructor)) static void begin(void)
{
    const char *name;
    if ((name = getenv("RAPPORT_FAULT_FOLDER")))
        folder_length = (size_t)snprintf(folder, sizeof folder, "%s/", name);
    if ((name = getenv("RAPPORT_FAULT_ACKS")))
        snprintf(acks, sizeof acks, "%s", name);
    if ((name = getenv("RAPPORT_FAULT_RULE")))
        snprintf(rule_file, sizeof rule_file, "%s", name);
    if ((name = getenv("RAPPORT_FAULT_TRACE"))) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (fd >= 0) {
            trace = (int)syscall(SYS_dup3, fd, TRACE_FD, O_CLOEXEC);
            syscall(SYS_close, fd);
        }
    }
}

/* The path of a descriptor, or "". */
static void path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

/* The absolute path of a name given to a call. */
static void path_at(int at, const char *name, char *path)
{
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char base[PATH_MAX];
    path_of(at, base);
    if (at == AT_FDCWD) {
        long length = syscall(SYS_getcwd, base, sizeof base);
        base[length > 0 ? length - 1 : 0] = 0;
    }
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX)
        path[0] = 0;
}

static int ours(const char *path)
{
    return folder_length && (strncmp(path, folder, folder_length) == 0 ||
                             (strlen(path) == folder_length - 1 && strncmp(path, folder, folder_length - 1) == 0));
}

static void append(const void *bytes, size_t size)
{
    const char *from = bytes;
    while (size) {
        long done = syscall(SYS_write, trace, from, size);
        if (done <= 0)
            abort(); /* a record with holes would prove nothing */
        from += done;
        size -= (size_t)done;
    }
}

/* Whether the list of calls names this one. */
static int named(const char *calls, const char *call)
{
    while (*calls) {
        size_t length = strcspn(calls, ",");
        if ((length == 1 && *calls == '*') || (length == strlen(call) && strncmp(calls, call, length) == 0))
            return 1;
        calls += length + (calls[length] == ',');
    }
    return 0;
}

/* What happens at this call by the rule; `error` is the errno of FAIL. */
static enum action decide(const char *call, int *error)
{
    char now[sizeof rule] = "", act[32], calls[160];
    long at;
    if (!rule_file[0])
        return NONE;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, rule_file, O_RDONLY);
    if (fd >= 0) {
        long length = syscall(SYS_read, fd, now, sizeof now - 1);
        now[length > 0 ? length : 0] = 0;
        syscall(SYS_close, fd);
    }
    if (strcmp(now, rule) != 0) {
        memcpy(rule, now, sizeof rule);
        matched = 0;
    }
    if (sscanf(rule, "%31s %159s %ld", act, calls, &at) != 3 || !named(calls, call))
        return NONE;
    matched++;
    size_t length = strlen(act);
    int on = length > 3 && strcmp(act + length - 3, "-on") == 0;
    if (on ? matched < at : matched != at)
        return NONE;
    if (strcmp(act, "kill-before") == 0)
        return KILL_BEFORE;
    if (strcmp(act, "kill-after") == 0)
        return KILL_AFTER;
    if (strcmp(act, "short") == 0)
        return SHORT;
    if (strncmp(act, "eio", 3) == 0)
        *error = EIO;
    else if (strncmp(act, "enospc", 6) == 0)
        *error = ENOSPC;
    else if (strncmp(act, "erofs", 5) == 0)
        *error = EROFS;
    else
        abort(); /* a rule that means nothing must not pass for a disk without faults */
    return FAIL;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

static void record(const char *call, int synchronous, long offset, long length, const char *path, const char *to)
{
    char line[2 * PATH_MAX + 128];
    if (trace < 0)
        return;
    int size = snprintf(line, sizeof line, "%s %c %ld %ld %s%s%s\n", call, synchronous ? 'd' : '-', offset, length, path,
                        to ? " -> " : "", to ? to : "");
    append(line, (size_t)size);
}

/* Writes of every kind. `offset` is where, or -1 for the descriptor's own place. */
static ssize_t write_parts(const char *call, int fd, const struct iovec *parts, int count, off_t offset)
{
    char path[PATH_MAX];
    path_of(fd, path);
    int acknowledges = acks[0] && strcmp(path, acks) == 0;
    if (!acknowledges && !ours(path))
        return offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0);
    struct iovec given[MOST_PARTS];
    size_t size = 0;
    int error = 0;
    for (int part = 0; part < count; part++)
        size += parts[part].iov_len;
    int synchronous = (syscall(SYS_fcntl, fd, F_GETFL) & O_DSYNC) != 0;
    pthread_mutex_lock(&one);
    enum action action = decide(acknowledges ? "ack" : synchronous ? "dwrite" : call, &error);
    if (action == KILL_BEFORE)
        die();
    if (action == FAIL) {
        pthread_mutex_unlock(&one);
        errno = error;
        return -1;
    }
    if (action == SHORT) {
        size_t left = size / 1024 * 512;
        int part = 0;
        for (; part < count && left; part++) {
            given[part] = parts[part];
            if (given[part].iov_len > left)
                given[part].iov_len = left;
            left -= given[part].iov_len;
        }
        parts = given;
        count = part;
    }
    long from = offset;
    if (offset < 0) {
        from = syscall(SYS_lseek, fd, 0, syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
        if (from < 0)
            from = 0; /* a pipe */
    }
    long done = 0;
    if (count)
        done = offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0);
    int told = errno;
    if (done > 0 && trace >= 0) {
        record(acknowledges ? "ack" : "write", synchronous, from, done, path, NULL);
        size_t left = (size_t)done;
        for (int part = 0; left; part++) {
            size_t here = parts[part].iov_len < left ? parts[part].iov_len : left;
            append(parts[part].iov_base, here);
            left -= here;
        }
    }
    if (action == KILL_AFTER)
        die();
    pthread_mutex_unlock(&one);
    errno = told;
    return done;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    struct iovec part = {(void *)bytes, size};
    return write_parts("write", fd, &part, 1, -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_parts("write", fd, parts, count, -1);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    struct iovec part = {(void *)bytes, size};
    return write_parts("pwrite", fd, &part, 1, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_parts("pwrite", fd, parts, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset) { return pwrite(fd, bytes, size, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev(fd, parts, count, offset); }

/* Begin and end of the calls that have one file and either work or do not. */
#define PLAIN(call, doing, recording)              \
    do {                                                 \
        int error = 0, told;                             \
        long done;                                       \
        pthread_mutex_lock(&one);                        \
        enum action action = decide(call, &error);       \
        if (action == KILL_BEFORE)                       \
            die();                                       \
        if (action == FAIL) {                            \
            done = -1;                                   \
            told = error;                                \
        } else {                                         \
            done = (doing);                              \
            told = errno;                                \
            if (done >= 0)                               \
                recording;                               \
        }                                                \
        if (action == KILL_AFTER)                        \
            die();                                       \
        pthread_mutex_unlock(&one);                      \
        errno = told;                                    \
        return (int)done;                                \
    } while (0)

int fsync(int fd)
{
    char path[PATH_MAX];
    path_of(fd, path);
    if (!ours(path))
        return (int)syscall(SYS_fsync, fd);
    PLAIN("fsync", syscall(SYS_fsync, fd), record("sync", 0, 0, 0, path, NULL));
}

int fdatasync(int fd)
{
    char path[PATH_MAX];
    path_of(fd, path);
    if (!ours(path))
        return (int)syscall(SYS_fdatasync, fd);
    PLAIN("fdatasync", syscall(SYS_fdatasync, fd), record("sync", 0, 0, 0, path, NULL));
}

int ftruncate(int fd, off_t length)
{
    char path[PATH_MAX];
    path_of(fd, path);
    if (!ours(path))
        return (int)syscall(SYS_ftruncate, fd, length);
    PLAIN("ftruncate", syscall(SYS_ftruncate, fd, length), record("length", 0, 0, length, path, NULL));
}

int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

int truncate(const char *name, off_t length)
{
    char path[PATH_MAX];
    path_at(AT_FDCWD, name, path);
    if (!ours(path))
        return (int)syscall(SYS_truncate, name, length);
    PLAIN("ftruncate", syscall(SYS_truncate, name, length), record("length", 0, 0, length, path, NULL));
}

int truncate64(const char *name, off_t length) { return truncate(name, length); }

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    char path[PATH_MAX];
    path_of(fd, path);
    if (!ours(path))
        return (int)syscall(SYS_fallocate, fd, mode, offset, length);
    PLAIN("fallocate", syscall(SYS_fallocate, fd, mode, offset, length),
          record("allocate", 0, offset, length, path, NULL));
}

int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }

/* Returns the error and leaves errno alone. */
int posix_fallocate(int fd, off_t offset, off_t length)
{
    int before = errno;
    int told = fallocate(fd, 0, offset, length) ? errno : 0;
    errno = before;
    return told;
}

int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned int flags)
{
    char old[PATH_MAX], new[PATH_MAX];
    path_at(from_at, from, old);
    path_at(to_at, to, new);
    if (!ours(new))
        return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    PLAIN("rename", syscall(SYS_renameat2, from_at, from, to_at, to, flags),
          record("rename", 0, 0, 0, old, new));
}

int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *name, int flags)
{
    char path[PATH_MAX];
    path_at(at, name, path);
    if (!ours(path))
        return (int)syscall(SYS_unlinkat, at, name, flags);
    PLAIN("unlink", syscall(SYS_unlinkat, at, name, flags), record("unlink", 0, 0, 0, path, NULL));
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int at, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    path_at(at, name, path);
    if (!ours(path))
        return (int)syscall(SYS_mkdirat, at, name, mode);
    PLAIN("mkdir", syscall(SYS_mkdirat, at, name, mode), record("mkdir", 0, 0, 0, path, NULL));
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* Opening changes the disk where it makes a file or empties one; on a read-only disk it is what fails first. */
static int open_at(int at, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    struct stat about;
    int changes = flags & O_ACCMODE || flags & (O_CREAT | O_TRUNC);
    if (changes)
        path_at(at, name, path);
    if (!changes || !ours(path))
        return (int)syscall(SYS_openat, at, name, flags, mode);
    int made = (flags & O_CREAT) && syscall(SYS_newfstatat, AT_FDCWD, path, &about, 0) != 0;
    int empties = !made && (flags & O_TRUNC);
    PLAIN(made ? "create" : "open", syscall(SYS_openat, at, name, flags, mode), {
        if (made)
            record("create", 0, 0, 0, path, NULL);
        else if (empties)
            record("length", 0, 0, 0, path, NULL);
    });
}

#define MODE_OF(flags, mode)                   \
    do {                                       \
        if ((flags) & (O_CREAT | O_TMPFILE)) { \
            va_list more;                      \
            va_start(more, flags);             \
            (mode) = va_arg(more, mode_t);     \
            va_end(more);                      \
        }                                      \
    } while (0)

int open(const char *name, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_at(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_at(AT_FDCWD, name, flags, mode);
}

int openat(int at, const char *name, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_at(at, name, flags, mode);
}

int openat64(int at, const char *name, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_at(at, name, flags, mode);
}

int creat(const char *name, mode_t mode) { return open_at(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
