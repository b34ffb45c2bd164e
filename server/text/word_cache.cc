#include "server/text/word_cache.h"

namespace featurescope {

WordCache::Shard& WordCache::ShardOf(absl::string_view word) const {
  // Cheap and even enough: locks are spread, the map below hashes properly.
  const size_t mixed = word.size() * 31 + static_cast<unsigned char>(word.front()) * 7 +
                       static_cast<unsigned char>(word.back()) * 13 +
                       static_cast<unsigned char>(word[word.size() / 2]);
  return shards_[mixed % kShards];
}

bool WordCache::Append(absl::string_view word, std::vector<uint32_t>* ids) const {
  if (word.empty() || word.size() > kMaxWordBytes) return false;
  Shard& shard = ShardOf(word);
  MutexLock lock(&shard.mutex);
  const auto found = shard.words.find(word);
  if (found == shard.words.end()) return false;
  ids->insert(ids->end(), found->second.begin(), found->second.end());
  return true;
}

void WordCache::Insert(absl::string_view word, const uint32_t* ids, size_t n) const {
  if (word.empty() || word.size() > kMaxWordBytes) return;
  Shard& shard = ShardOf(word);
  MutexLock lock(&shard.mutex);
  if (shard.words.size() >= kMaxWordsPerShard) shard.words.clear();
  shard.words.try_emplace(std::string(word), ids, ids + n);
}

}  // namespace featurescope
