// Loaded things by id: each loaded once, kept while there is room for it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace featurescope {

// Handles of any type under one byte budget. What is in use (a handle of it lives outside) is never
// dropped; of the rest the least recently used goes first. Thread-safe.
class LoadCache {
 public:
  using Handle = std::shared_ptr<const void>;

  explicit LoadCache(uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // The handle of `key`, loaded by `load` if need be; concurrent callers wait for one load. `bytes`
  // is what it will take; room is made before loading.
  //   errors  ResourceExhausted  no room, even without all that is not in use
  //           those of `load`; the next call tries again
  absl::StatusOr<Handle> Get(const std::string& key, uint64_t bytes,
                             const std::function<absl::StatusOr<Handle>()>& load);

  // Takes in what is loaded already. What does not fit is not kept.
  void Put(const std::string& key, uint64_t bytes, Handle handle);
  // Forgets the key; who holds a handle keeps it.
  void Drop(absl::string_view key);
  bool Contains(absl::string_view key) const;
  uint64_t used_bytes() const;
  uint64_t budget_bytes() const { return budget_bytes_; }

 private:
  struct Entry {
    Handle handle;  // null while loading
    uint64_t bytes = 0;
    uint64_t last_used = 0;
    bool loading = false;
  };
  // Drops what is not in use until `bytes` more fit.
  bool MakeRoom(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t budget_bytes_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t clock_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace featurescope
