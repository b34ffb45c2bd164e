// Work on several threads whose results come out in the order in which the work went in.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"

namespace featurescope {

// Push() and Pop() are for one thread. Bounds nothing: look at size() before Push().
template <typename In, typename Out>
class OrderedPool {
 public:
  // `work` runs on `n_threads` threads at once; with one thread it runs in Pop() instead.
  OrderedPool(int n_threads, std::function<Out(In)> work) : work_(std::move(work)) {
    if (n_threads < 2) return;
    threads_.reserve(static_cast<size_t>(n_threads));
    for (int i = 0; i < n_threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  // Waits for what is being worked on; the rest is dropped.
  ~OrderedPool() {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
      changed_.SignalAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }
  OrderedPool(const OrderedPool&) = delete;
  OrderedPool& operator=(const OrderedPool&) = delete;

  void Push(In in) {
    MutexLock lock(&mutex_);
    jobs_.emplace_back().in = std::move(in);
    changed_.SignalAll();
  }

  // The result of the oldest work that was pushed and not yet popped; waits for it.
  // REQUIRES: size() > 0.
  Out Pop() {
    if (threads_.empty()) return work_(TakeOldest().in.value());
    MutexLock lock(&mutex_);
    while (!jobs_.front().out) changed_.Wait(&mutex_);
    Out out = *std::move(jobs_.front().out);
    jobs_.pop_front();
    --n_started_;
    return out;
  }

  // Pushed and not yet popped.
  size_t size() const {
    MutexLock lock(&mutex_);
    return jobs_.size();
  }

 private:
  struct Job {
    std::optional<In> in;
    std::optional<Out> out;
  };

  Job TakeOldest() {
    MutexLock lock(&mutex_);
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    return job;
  }

  void Work() {
    MutexLock lock(&mutex_);
    while (true) {
      while (!stopping_ && n_started_ == jobs_.size()) changed_.Wait(&mutex_);
      if (stopping_) return;
      Job& job = jobs_[n_started_++];  // stays in place: a deque only grows and shrinks at its ends
      In in = *std::move(job.in);
      mutex_.Unlock();
      Out out = work_(std::move(in));
      mutex_.Lock();
      job.out = std::move(out);
      changed_.SignalAll();
    }
  }

  const std::function<Out(In)> work_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  size_t n_started_ ABSL_GUARDED_BY(mutex_) = 0;  // of jobs_, from the front
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace featurescope
