// Threads that take pieces of work until none is left.
//
// Pieces are handed out one by one, so that a thread whose core is taken away costs one piece, not its share. Whoever
// waits spins for a moment (the next call of a decode step comes soon) and then sleeps: a core that sleeps is one that
// the system can move a thread to whose own core was taken away. A call does not wait for a thread that has not begun:
// it only waits for pieces that are being worked on.
//
// On a machine of several memory nodes, threads are spread over the nodes and stay there, and every node has a share of
// the pieces, the same one in every call of as many pieces: pieces of the same rows meet the same node. A thread that
// has no pieces left at home takes those of the other nodes. Which thread takes a piece changes no number.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "nodes.hpp"
#include "signal_word.hpp"

namespace longlens {

class ThreadPool {
 public:
  // The calling thread counts as one of `num_threads`. Throws std::system_error if there cannot be as many.
  explicit ThreadPool(int num_threads, const Nodes& nodes = usable_nodes());
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls work(piece) for every piece in 0 .. pieces - 1, each once, and returns when all are done. One call at a time:
  // a second caller waits for the first, so a piece must not call the pool. What a piece throws is thrown here, once the
  // other pieces are done. In a process made by fork(), which has no threads but its own, the caller does everything.
  template <class Work>
  void run(int pieces, const Work& work) {
    run_erased(pieces, [](const void* context, int piece) { (*static_cast<const Work*>(context))(piece); }, &work);
  }

 private:
  using Call = void (*)(const void* context, int piece);

  // The pieces of one node. A line of the cache for each of these and for each word below: what one thread writes is
  // not what another one waits for.
  struct alignas(64) Share {
    std::atomic<int> next{0};
    int end = 0;
  };

  void run_erased(int pieces, Call call, const void* context);
  void share_out(int pieces);
  void take_pieces(int home);
  void wait_for_workers();
  void work(int home);
  uint32_t wait_for_job(uint32_t last);
  void end_workers();
  int home_of_thread(int thread) const;
  int home_of_caller() const;

  std::mutex caller_;
  uint32_t birth_;  // how many forks made this process when the pool was made
  int num_homes_;
  std::unique_ptr<Share[]> shares_;
  std::vector<int> threads_before_;        // of each node, how many threads the nodes before it have; then all threads
  std::vector<int> home_of_processor_;     // empty with one node
  alignas(64) Call call_ = nullptr;
  const void* context_ = nullptr;
  alignas(64) SignalWord door_;            // odd while a job may be joined; another number for every job
  alignas(64) SignalWord active_;          // workers that are inside of a job
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> is_caller_asleep_{false};
  std::atomic<bool> is_ending_{false};
  std::atomic<bool> has_failed_{false};
  std::exception_ptr failure_;
  std::vector<std::thread> workers_;
};

}  // namespace longlens
