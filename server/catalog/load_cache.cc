#include "server/catalog/load_cache.h"

#include <utility>

#include "server/base/status.h"

namespace featurescope {

bool LoadCache::MakeRoom(uint64_t bytes) {
  while (bytes > budget_bytes_ || used_bytes_ > budget_bytes_ - bytes) {
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      // Handles are given out under the lock only, so one owner means that nobody uses it.
      if (it->second.loading || it->second.handle.use_count() > 1) continue;
      if (oldest == entries_.end() || it->second.last_used < oldest->second.last_used) oldest = it;
    }
    if (oldest == entries_.end()) return false;
    used_bytes_ -= oldest->second.bytes;
    entries_.erase(oldest);
  }
  return true;
}

absl::StatusOr<LoadCache::Handle> LoadCache::Get(
    const std::string& key, uint64_t bytes, const std::function<absl::StatusOr<Handle>()>& load) {
  {
    absl::MutexLock lock(&mutex_);
    const auto not_loading = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      const auto it = entries_.find(key);
      return it == entries_.end() || !it->second.loading;
    };
    mutex_.Await(absl::Condition(&not_loading));
    if (const auto it = entries_.find(key); it != entries_.end()) {
      it->second.last_used = ++clock_;
      return it->second.handle;
    }
    if (!MakeRoom(bytes)) {
      return ResourceExhausted(key, " needs ", bytes, " bytes of memory; ", used_bytes_,
                               " of the budget of ", budget_bytes_, " bytes are in use");
    }
    used_bytes_ += bytes;
    entries_[key] = Entry{nullptr, bytes, ++clock_, true};
  }
  absl::StatusOr<Handle> loaded = load();
  absl::MutexLock lock(&mutex_);
  if (!loaded.ok()) {
    used_bytes_ -= bytes;
    entries_.erase(key);
    return loaded.status();
  }
  Entry& entry = entries_[key];
  entry.handle = *loaded;
  entry.loading = false;
  return loaded;
}

void LoadCache::Put(const std::string& key, uint64_t bytes, Handle handle) {
  absl::MutexLock lock(&mutex_);
  if (entries_.contains(key) || !MakeRoom(bytes)) return;
  used_bytes_ += bytes;
  entries_[key] = Entry{std::move(handle), bytes, ++clock_, false};
}

void LoadCache::Drop(absl::string_view key) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(std::string(key));
  if (it == entries_.end() || it->second.loading) return;
  used_bytes_ -= it->second.bytes;
  entries_.erase(it);
}

bool LoadCache::Contains(absl::string_view key) const {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(std::string(key));
  return it != entries_.end() && !it->second.loading;
}

uint64_t LoadCache::used_bytes() const {
  absl::MutexLock lock(&mutex_);
  return used_bytes_;
}

}  // namespace featurescope
