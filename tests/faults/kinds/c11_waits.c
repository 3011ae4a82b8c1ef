/* libfaketime moves the clock that librdkafka reads, and the waits of POSIX, but not those of C11 (0.9.10), which
 * librdkafka uses: it would wait for the hours by which the clock is wrong. Preloaded behind libfaketime by `clock`. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
  /* glibc's types of C11 are those of POSIX. */
  int failed = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
  return failed == 0 ? thrd_success : failed == ETIMEDOUT ? thrd_timedout : thrd_error;
}
