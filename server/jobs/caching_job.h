// The caching job: writes a model's activations on a corpus to disk, for many trainings to read;
// and the caches that there are.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/catalog/catalog.h"
#include "server/engine/run_context.h"
#include "server/formats/safetensors.h"
#include "server/store/state_db.h"

namespace featurescope {

constexpr char kCachingKind[] = "caching";

struct CachingJob {
  std::string cache_id;  // the new one's
  std::string model_id;
  std::string corpus_id;
  std::vector<std::string> hook_names;
  DType dtype = DType::kBF16;   // F16, BF16 or F32
  bool special_tokens = false;  // also positions of special tokens and BOS
};

// float16, bfloat16, float32; empty is bfloat16.   errors  InvalidArgument  naming the field
// `dtype`
absl::StatusOr<DType> ParseCacheDType(absl::string_view name);
// REQUIRES: one of the three.
absl::string_view CacheDTypeName(DType dtype);

// As in spec_json.h.
std::string ToJson(const CachingJob& job);
absl::StatusOr<CachingJob> CachingJobFromJson(absl::string_view json);

// Loads the model and checks all that can be known at once.
//
//   errors  NotFound            the model or the corpus
//           InvalidArgument     the id; hook points that are none of the model's, or named twice
//           FailedPrecondition  contexts that are too long for the model
//           AlreadyExists       there is such a cache
//           ResourceExhausted   it would not fit on the disk; the message says what it takes
absl::Status CheckCaching(Catalog* catalog, const CachingJob& job);

// That a cache of `bytes`, of which `written` are there, fits where `available` are free, with some
// to spare.   errors  ResourceExhausted
absl::Status CheckRoomForCache(uint64_t bytes, uint64_t written, uint64_t available,
                               absl::string_view where);

using CachingObserver = std::function<void(const RunProgress&, const JobTransfer&)>;

// Writes the cache of `row`, which the caller has claimed, and tells `observer`, in place of
// context.on_progress, how far it is. A run after a crash continues with the first shard that is
// not there.
//   errors  those of WriteActivationCache and of loading
absl::Status RunCachingJob(Catalog* catalog, const JobRow& row, const RunContext& context,
                           const CachingObserver& observer);

struct ActivationCacheEntry {
  std::string id;
  std::vector<std::string> hook_names;
  std::vector<uint32_t> widths;  // of each hook point
  std::string dtype;
  uint64_t n_rows = 0;
  uint64_t bytes = 0;
};

// The complete ones, sorted by id; one that cannot be read is left out, with a warning in the log.
std::vector<ActivationCacheEntry> ListActivationCaches(const Catalog& catalog);
//   errors  InvalidArgument     no id
//           NotFound            no such cache
//           FailedPrecondition  an unfinished job makes or uses it
absl::Status DeleteActivationCache(Catalog* catalog, absl::string_view id);

// Removes what jobs that have ended left half written.
void RemoveIncompleteCaches(Catalog* catalog);

}  // namespace featurescope
