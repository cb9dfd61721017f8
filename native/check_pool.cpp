// The thread pool: every piece once, whatever the threads are doing; failures; forks; memory nodes.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "nodes.hpp"
#include "thread_pool.hpp"

namespace longlens::check {
namespace {

void each_piece_is_done_once(ThreadPool& pool, int pieces) {
  std::vector<std::atomic<int>> seen(static_cast<size_t>(pieces));
  // not atomic: the end of the call is what makes a worker's writing visible
  std::vector<int> written(static_cast<size_t>(pieces), 0);
  pool.run(pieces, [&](int piece) {
    seen[static_cast<size_t>(piece)].fetch_add(1);
    written[static_cast<size_t>(piece)] = piece + 1;
  });
  for (int piece = 0; piece < pieces; ++piece) {
    const size_t at = static_cast<size_t>(piece);
    if (seen[at].load() != 1) fault("piece %d of %d was done %d times", piece, pieces, seen[at].load());
    if (written[at] != piece + 1) fault("the caller does not see what piece %d wrote", piece);
  }
}

void check_pieces(const Nodes& nodes) {
  for (int threads = 1; threads <= 5; ++threads) {
    ThreadPool pool(threads, nodes);
    if (pool.num_threads() != threads) fault("%d threads instead of %d", pool.num_threads(), threads);
    for (int round = 0; round < 160; ++round) {
      each_piece_is_done_once(pool, between(0, 40));
      // now and then the threads have time to fall asleep, or are about to
      if (round % 20 == 0) std::this_thread::sleep_for(std::chrono::microseconds(round % 40 == 0 ? 55 : 2000));
    }
  }
}

// A piece that takes longer than anybody spins: the caller sleeps too, and must be woken.
void check_long_pieces() {
  ThreadPool pool(3);
  for (int round = 0; round < 40; ++round) {
    std::atomic<int> done{0};
    pool.run(3, [&](int piece) {
      if (piece == round % 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      done.fetch_add(1);
    });
    if (done.load() != 3) fault("%d of 3 long pieces were done", done.load());
  }
}

// Each piece waits for all others to have begun: threads that fell asleep must come.
void check_waking() {
  ThreadPool pool(3);
  for (int round = 0; round < 10; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<int> begun{0};
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    pool.run(3, [&](int) {
      begun.fetch_add(1);
      while (begun.load() < 3 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    });
    if (std::chrono::steady_clock::now() < until) continue;
    fault("threads that sleep are not woken");
    return;
  }
}

void check_many_callers() {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<int> done{0};
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) pool.run(7, [&](int) { done.fetch_add(1); });
    });
  }
  for (std::thread& caller : callers) caller.join();
  if (done.load() != 2100) fault("%d of 2100 pieces of three callers were done", done.load());
}

void check_failures() {
  ThreadPool pool(3);
  for (int round = 0; round < 60; ++round) {
    std::atomic<int> done{0};
    bool has_thrown = false;
    try {
      pool.run(20, [&](int piece) {
        done.fetch_add(1);
        if (piece % 7 == round % 7) throw std::runtime_error("a piece that fails");
      });
    } catch (const std::runtime_error&) {
      has_thrown = true;
    }
    if (!has_thrown) fault("a piece failed and nobody was told");
    if (done.load() != 20) fault("%d of 20 pieces were done beside one that failed", done.load());
    each_piece_is_done_once(pool, 20);
  }
}

void check_lives() {
  for (int round = 0; round < 50; ++round) {
    ThreadPool pool(4);
    if (round % 2 == 0) each_piece_is_done_once(pool, 9);
  }
}

// A process made by fork() has the pool but not its threads.
void check_fork() {
  auto pool = std::make_unique<ThreadPool>(3);
  each_piece_is_done_once(*pool, 9);
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);  // a child that waits for threads that are not there ends by it
    int done = 0;
    pool->run(9, [&](int) { ++done; });
    pool.reset();
#ifndef __SANITIZE_THREAD__  // which does not follow threads of a forked process
    ThreadPool(2).run(9, [](int) {});
#endif
    _exit(done == 9 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  if (status != 0) fault("a forked process ended with %d", status);
  each_piece_is_done_once(*pool, 9);
}

void write_line(const std::string& path, const std::string& line) { std::ofstream(path) << line << '\n'; }

}  // namespace

void check_nodes() {
  const std::vector<int> seven = {0, 1, 2, 3, 8, 10, 11};
  if (read_processor_list("0-3,8,10-11") != seven) fault("a list of processors is misread");
  for (const char* text : {"", "x", "-3", "3-1", "0-99999999999999999999"}) {
    if (!read_processor_list(text).empty()) fault("'%s' is read as a list of processors", text);
  }
  if (read_processor_list("1,,2") != std::vector<int>{1} || read_processor_list("1,2-") != std::vector<int>{1}) {
    fault("a broken list of processors is read beyond the break");
  }
  if (usable_nodes("/no/such/folder") != Nodes(1)) fault("without node folders there is not one node");

  char name[] = "/tmp/longlens_nodes_XXXXXX";
  const std::string folder = mkdtemp(name);
  const int here = current_processor();
  const std::string mine = std::to_string(here);
  for (const char* node : {"/node0", "/node1", "/node4"}) {
    if (std::system(("mkdir " + folder + node).c_str()) != 0) fault("a folder cannot be made in %s", name);
  }
  write_line(folder + "/online", "0-1,4");
  write_line(folder + "/node0/cpulist", mine);
  write_line(folder + "/node1/cpulist", "900-901");  // where this process may not run
  write_line(folder + "/node4/cpulist", "");
  if (usable_nodes(folder) != Nodes(1)) fault("a node that cannot be used counts");
  write_line(folder + "/node4/cpulist", mine);
  if (usable_nodes(folder) != Nodes{{here}, {here}}) fault("two nodes are not seen");
  if (std::system(("rm -r " + folder).c_str()) != 0) fault("%s cannot be removed", name);

  stay_on({here});
  if (current_processor() != here) fault("a thread does not stay on its processor");
}

void check_pool() {
  const int here = current_processor();
  check_pieces(Nodes(1));
  check_pieces({{0}, {here}});
  check_pieces({{0}, {9999}, {here}});  // a processor that is not there pins nothing
  check_long_pieces();
  check_waking();
  check_many_callers();
  check_failures();
  check_lives();
  check_fork();
}

}  // namespace longlens::check
