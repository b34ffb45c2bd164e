// What a job is asked to do: ids and the run's own specification; and the same as JSON, which is
// how it lies in the queue.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/index/run_indexing.h"
#include "server/train/spec.h"

namespace featurescope {

// A further corpus of a mixture.
struct MixedCorpus {
  std::string corpus_id;
  double weight = 1;  // its contexts among all
};

// Raw files of rows [n, width] that follow each other.
struct RawChannel {
  std::vector<std::string> paths;
  std::string dtype;  // float16, bfloat16, float32; empty: float16
  int64_t width = 0;  // 0: that of the hook point
};

struct TrainingJob {
  std::string sae_id;  // the new one's
  std::string model_id;
  std::string corpus_id;
  std::string hook_name;
  std::string hook_name_out;  // transcoders
  std::string preset;         // that the specification began with; for people
  double corpus_weight = 1;
  std::vector<MixedCorpus> more_corpora;
  // Activations from files instead of a model's on corpora: a cache, or raw files.
  std::string activation_cache;
  std::vector<RawChannel> activation_files;
  TrainingSpec training;

  bool from_files() const { return !activation_cache.empty() || !activation_files.empty(); }
};

// Several SAEs on one stream; each member is complete.
struct SweepJob {
  std::vector<TrainingJob> members;
};

struct IndexingJob {
  std::string sae_id;
  std::string corpus_id;
  IndexSpec indexing;
};

enum class ImportOf { kModel, kSae };

struct ImportJob {
  ImportOf what = ImportOf::kModel;
  std::string id;        // the new entry's
  std::string source;    // model: ORG/NAME; SAE: RELEASE/ID or ORG/NAME/PATH
  std::string revision;  // empty: main
  std::vector<std::string> include;
  // Of an SAE, as in AddSaeOptions.
  std::string model_id;
  std::string hook_name;
  std::optional<bool> center_writing_weights;
  bool any_width = false;
};

constexpr char kTrainingKind[] = "training";
constexpr char kSweepKind[] = "sweep";
constexpr char kIndexingKind[] = "indexing";
constexpr char kImportKind[] = "import";

// One line with every field, keys sorted: equal specifications give equal text. Unset optional
// fields are null.
std::string ToJson(const TrainingJob& job);
std::string ToJson(const SweepJob& job);
std::string ToJson(const IndexingJob& job);
std::string ToJson(const ImportJob& job);

// The reverse. `json` is what ToJson of this or an older version wrote.
//   errors  InvalidArgument  naming the field
absl::StatusOr<TrainingJob> TrainingJobFromJson(absl::string_view json);
absl::StatusOr<SweepJob> SweepJobFromJson(absl::string_view json);
absl::StatusOr<IndexingJob> IndexingJobFromJson(absl::string_view json);
absl::StatusOr<ImportJob> ImportJobFromJson(absl::string_view json);

}  // namespace featurescope
