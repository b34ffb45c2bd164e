// A bounded cache from words to their token ids, shared by all threads of a tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"

namespace featurescope {

// Thread-safe. Words longer than kMaxWordBytes are never kept.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 48;

  // Appends the ids of `word` to *ids and returns true when it is known.
  bool Append(absl::string_view word, std::vector<uint32_t>* ids) const;
  // Keeps the ids of `word`. A full shard starts again from nothing.
  void Insert(absl::string_view word, const uint32_t* ids, size_t n) const;

 private:
  static constexpr size_t kShards = 32;
  static constexpr size_t kMaxWordsPerShard = 4096;

  struct alignas(64) Shard {
    Mutex mutex;
    absl::flat_hash_map<std::string, absl::InlinedVector<uint32_t, 6>> words ABSL_GUARDED_BY(mutex);
  };
  Shard& ShardOf(absl::string_view word) const;

  mutable std::array<Shard, kShards> shards_;
};

}  // namespace featurescope
