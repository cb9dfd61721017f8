// Threads that take pieces of work until none is left.
//
// Pieces are handed out one by one, so that a thread whose core is taken away costs one piece, not its share. Waiting
// threads spin for a moment (the next call of a decode step comes soon) and then sleep. A call does not wait for a
// thread that has not begun: it only waits for pieces that are being worked on.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace longlens {

class ThreadPool {
 public:
  // The calling thread counts as one of `num_threads`.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls work(piece) for every piece in 0 .. pieces - 1, each once, and returns when all are done. One call at a time:
  // a second caller waits for the first.
  template <class Work>
  void run(int pieces, const Work& work) {
    run_erased(pieces, [](const void* context, int piece) { (*static_cast<const Work*>(context))(piece); }, &work);
  }

 private:
  using Call = void (*)(const void* context, int piece);
  void run_erased(int pieces, Call call, const void* context);
  void take_pieces();
  void work();
  uint64_t wait_for_job(uint64_t last);

  std::mutex caller_;
  Call call_ = nullptr;
  const void* context_ = nullptr;
  int pieces_ = 0;
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<uint64_t> open_{0};  // number of the job that may be joined; 0 for none
  alignas(64) std::atomic<int> active_{0};     // workers that are inside of a job
  alignas(64) std::atomic<int> sleepers_{0};
  uint64_t last_job_ = 0;
  std::atomic<bool> is_ending_{false};
  std::mutex sleep_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace longlens
