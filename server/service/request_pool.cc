#include "server/service/request_pool.h"

#include <utility>

#include "server/base/status.h"

namespace featurescope {

RequestPool::RequestPool(std::string name, size_t max_threads, size_t max_waiting)
    : name_(std::move(name)), max_threads_(max_threads), max_waiting_(max_waiting) {}

RequestPool::~RequestPool() {
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    stopping_ = true;
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

absl::Status RequestPool::Submit(std::function<void()> body) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return absl::UnavailableError("the server is shutting down");
  if (running_ + waiting_.size() >= max_threads_ + max_waiting_) {
    return ResourceExhausted("the server is busy: ", running_, " ", name_, " are running and ",
                             waiting_.size(), " are waiting; try again in a moment");
  }
  waiting_.push_back(std::move(body));
  if (running_ + waiting_.size() > threads_.size() && threads_.size() < max_threads_) {
    threads_.emplace_back([this] { Loop(); });
  }
  return absl::OkStatus();
}

bool RequestPool::Drain(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return running_ == 0 && waiting_.empty();
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&empty), timeout);
}

size_t RequestPool::in_flight() const {
  absl::MutexLock lock(&mutex_);
  return running_ + waiting_.size();
}

void RequestPool::Loop() {
  while (true) {
    std::function<void()> body;
    {
      absl::MutexLock lock(&mutex_);
      auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !waiting_.empty();
      };
      mutex_.Await(absl::Condition(&ready));
      if (waiting_.empty()) return;
      body = std::move(waiting_.front());
      waiting_.pop_front();
      ++running_;
    }
    body();
    body = nullptr;
    absl::MutexLock lock(&mutex_);
    --running_;
  }
}

}  // namespace featurescope
