#include "thread_pool.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <utility>

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

// Looks until `is_over` holds, for a moment; whether it held.
template <class Condition>
bool spin_until(const Condition& is_over) {
  const auto until = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (is_over()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < until);
  return false;
}

std::atomic<uint32_t> num_forks{0};

uint32_t count_forks_from_now_on() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { num_forks.fetch_add(1); });
  static_cast<void>(registered);
  return num_forks.load();
}

// Signals are for the threads that the program started, not for ours.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

ThreadPool::ThreadPool(int num_threads, const Nodes& nodes)
    : birth_(count_forks_from_now_on()),
      num_homes_(std::max(1, std::min(static_cast<int>(nodes.size()), num_threads))),
      shares_(new Share[static_cast<size_t>(num_homes_)]),
      threads_before_(static_cast<size_t>(num_homes_) + 1, num_threads) {
  for (int thread = num_threads - 1; thread >= 0; --thread) {
    threads_before_[static_cast<size_t>(static_cast<int64_t>(thread) * num_homes_ / num_threads)] = thread;
  }
  for (int home = 0; home < num_homes_ && num_homes_ > 1; ++home) {
    for (int processor : nodes[static_cast<size_t>(home)]) {
      const size_t place = static_cast<size_t>(processor);
      if (home_of_processor_.size() <= place) home_of_processor_.resize(place + 1, 0);
      home_of_processor_[place] = home;
    }
  }
  const NoSignals until_the_end;
  try {
    for (int thread = 1; thread < num_threads; ++thread) {
      const int home = home_of_thread(thread);
      const std::vector<int> processors = num_homes_ > 1 ? nodes[static_cast<size_t>(home)] : std::vector<int>();
      workers_.emplace_back([this, home, processors] {
        stay_on(processors);
        work(home);
      });
    }
  } catch (...) {
    end_workers();
    throw;
  }
}

ThreadPool::~ThreadPool() { end_workers(); }

void ThreadPool::end_workers() {
  if (num_forks.load() != birth_) {
    // The threads were left behind in the parent, and a handle of one that does not exist can neither be joined nor
    // detached: they are forgotten, and so never destroyed.
    new std::vector<std::thread>(std::move(workers_));
    door_.forget_sleepers();
    active_.forget_sleepers();
    return;
  }
  is_ending_.store(true);
  door_.value.fetch_add(2);
  door_.wake_all();
  for (std::thread& worker : workers_) worker.join();
}

int ThreadPool::home_of_thread(int thread) const {
  int home = 0;
  while (thread >= threads_before_[static_cast<size_t>(home) + 1]) ++home;
  return home;
}

// The caller is not ours to pin, so it is asked where it is.
int ThreadPool::home_of_caller() const {
  if (num_homes_ == 1) return 0;
  const int processor = current_processor();
  if (processor < 0 || static_cast<size_t>(processor) >= home_of_processor_.size()) return 0;
  return home_of_processor_[static_cast<size_t>(processor)];
}

void ThreadPool::share_out(int pieces) {
  for (int home = 0; home < num_homes_; ++home) {
    const auto first = [&](int node) {
      return static_cast<int>(static_cast<int64_t>(pieces) * threads_before_[static_cast<size_t>(node)] /
                              num_threads());
    };
    shares_[static_cast<size_t>(home)].next.store(first(home), std::memory_order_relaxed);
    shares_[static_cast<size_t>(home)].end = first(home + 1);
  }
}

void ThreadPool::run_erased(int pieces, Call call, const void* context) {
  if (workers_.empty() || pieces <= 1 || num_forks.load(std::memory_order_relaxed) != birth_) {
    for (int piece = 0; piece < pieces; ++piece) call(context, piece);
    return;
  }
  std::lock_guard<std::mutex> only_caller(caller_);
  call_ = call;
  context_ = context;
  share_out(pieces);
  door_.value.fetch_add(1);
  if (sleepers_.load() > 0) door_.wake_all();
  take_pieces(home_of_caller());
  // Closed before `active_` is read: a worker that joins later sees the closed door and turns back.
  door_.value.fetch_add(1);
  wait_for_workers();
  if (has_failed_.load()) {
    has_failed_.store(false);
    std::rethrow_exception(std::exchange(failure_, nullptr));
  }
}

void ThreadPool::wait_for_workers() {
  if (spin_until([&] { return active_.value.load() == 0; })) return;
  // Set before `active_` is read again, which the last worker changes before it looks here.
  is_caller_asleep_.store(true);
  while (const uint32_t active = active_.value.load()) active_.sleep_while(active);
  is_caller_asleep_.store(false);
}

void ThreadPool::take_pieces(int home) {
  for (int i = 0; i < num_homes_; ++i) {
    Share& share = shares_[static_cast<size_t>((home + i) % num_homes_)];
    for (;;) {
      const int piece = share.next.fetch_add(1, std::memory_order_relaxed);
      if (piece >= share.end) break;
      try {
        call_(context_, piece);
      } catch (...) {
        if (!has_failed_.exchange(true)) failure_ = std::current_exception();
      }
    }
  }
}

void ThreadPool::work(int home) {
  uint32_t last = 0;
  for (;;) {
    last = wait_for_job(last);
    if (is_ending_.load()) return;
    active_.value.fetch_add(1);
    if (door_.value.load() % 2 == 1) take_pieces(home);
    if (active_.value.fetch_sub(1) == 1 && is_caller_asleep_.load()) active_.wake_all();
  }
}

// Returns the number of a job that is not `last` and may be joined, or anything once the pool ends.
uint32_t ThreadPool::wait_for_job(uint32_t last) {
  const auto is_job = [last](uint32_t number) { return number % 2 == 1 && number != last; };
  uint32_t number = 0;
  if (spin_until([&] { return is_job(number = door_.value.load()); })) return number;
  for (;;) {
    // Counted before the door is read again, which the caller changes before it looks whether anybody sleeps.
    sleepers_.fetch_add(1);
    number = door_.value.load();
    const bool is_over = is_job(number) || is_ending_.load();
    if (!is_over) door_.sleep_while(number);
    sleepers_.fetch_sub(1);
    if (is_over) return number;
  }
}

}  // namespace longlens
