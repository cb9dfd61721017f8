// A number that threads can sleep on until it changes: futex(2) on Linux, a condition variable elsewhere.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__linux__) && !defined(LONGLENS_NO_FUTEX)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define LONGLENS_WORD_HAS_LOCK
#include <condition_variable>
#include <memory>
#include <mutex>
#endif

namespace longlens {

// Whoever changes `value` wakes sleepers itself, where there may be any.
struct SignalWord {
  std::atomic<uint32_t> value{0};

  // Sleeps while `value` is `seen`; may return early.
  void sleep_while(uint32_t seen) {
#ifdef LONGLENS_WORD_HAS_LOCK
    std::unique_lock<std::mutex> lock(bed_->lock);
    bed_->wake.wait(lock, [&] { return value.load() != seen; });
#else
    static_assert(sizeof(value) == 4, "the kernel looks at four bytes");
    syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
#endif
  }

  void wake_all() {
#ifdef LONGLENS_WORD_HAS_LOCK
    // taken and given back, so that a thread that is about to sleep sees the number or hears the call
    { std::lock_guard<std::mutex> lock(bed_->lock); }
    bed_->wake.notify_all();
#else
    syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
#endif
  }

  // For a process made by fork(): its copy of what other threads sleep on can be used no more, nor destroyed.
  void forget_sleepers() {
#ifdef LONGLENS_WORD_HAS_LOCK
    bed_.release();
#endif
  }

#ifdef LONGLENS_WORD_HAS_LOCK
 private:
  struct Bed {
    std::mutex lock;
    std::condition_variable wake;
  };
  std::unique_ptr<Bed> bed_ = std::make_unique<Bed>();
#endif
};

}  // namespace longlens
