// The bounded pool of threads on which RPC bodies run, and the gate that drains it.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace featurescope {

// Thread-safe. Threads are started when they are first needed.
class RequestPool {
 public:
  // `max_threads` bodies run at once, `max_waiting` more may wait for a thread.
  RequestPool(std::string name, size_t max_threads, size_t max_waiting);
  // Waits for all bodies.
  ~RequestPool();

  //   errors  ResourceExhausted  all threads are busy and the queue is full
  //           Unavailable        the pool is draining
  absl::Status Submit(std::function<void()> body);

  // Refuses new bodies from now on and waits until none is left; false when `timeout` passed first.
  bool Drain(absl::Duration timeout);

  size_t in_flight() const;  // waiting and running

 private:
  void Loop();

  const std::string name_;
  const size_t max_threads_;
  const size_t max_waiting_;
  mutable absl::Mutex mutex_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace featurescope
