#include "thread_pool.hpp"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace longlens {
namespace {

// Longer than the pause between two operations of a decode step, shorter than what a neighbour would notice.
constexpr auto kSpin = std::chrono::microseconds(60);
constexpr int kPausesPerLook = 32;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  for (int i = 1; i < num_threads; ++i) workers_.emplace_back([this] { work(); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(sleep_);
    is_ending_.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_erased(int pieces, Call call, const void* context) {
  if (workers_.empty() || pieces <= 1) {
    for (int piece = 0; piece < pieces; ++piece) call(context, piece);
    return;
  }
  std::lock_guard<std::mutex> only_caller(caller_);
  call_ = call;
  context_ = context;
  pieces_ = pieces;
  next_.store(0, std::memory_order_relaxed);
  open_.store(++last_job_);
  if (sleepers_.load() > 0) {
    // taken and given back, so that a thread that is about to sleep sees the job or hears the call
    { std::lock_guard<std::mutex> lock(sleep_); }
    wake_.notify_all();
  }
  take_pieces();
  // Closed before `active_` is read: a worker that joins later sees the closed door and turns back.
  open_.store(0);
  for (int looks = 0; active_.load() > 0; ++looks) {
    if (looks < 1 << 10) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::take_pieces() {
  for (;;) {
    const int piece = next_.fetch_add(1, std::memory_order_relaxed);
    if (piece >= pieces_) return;
    call_(context_, piece);
  }
}

void ThreadPool::work() {
  uint64_t last = 0;
  while (!is_ending_.load(std::memory_order_relaxed)) {
    last = wait_for_job(last);
    active_.fetch_add(1);
    if (open_.load() != 0) take_pieces();
    active_.fetch_sub(1);
  }
}

// Returns the number of a job that is open and not `last`, or `last` when the pool ends.
uint64_t ThreadPool::wait_for_job(uint64_t last) {
  auto seen = [&] {
    const uint64_t job = open_.load();
    return job != 0 && job != last ? job : 0;
  };
  const auto until = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (const uint64_t job = seen()) return job;
      pause();
    }
  } while (std::chrono::steady_clock::now() < until);
  std::unique_lock<std::mutex> lock(sleep_);
  sleepers_.fetch_add(1);
  uint64_t job = 0;
  wake_.wait(lock, [&] { return is_ending_.load() || (job = seen()) != 0; });
  sleepers_.fetch_sub(1);
  return job != 0 ? job : last;
}

}  // namespace longlens
