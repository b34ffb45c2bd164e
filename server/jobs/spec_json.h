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

struct TrainingJob {
  std::string sae_id;  // the new one's
  std::string model_id;
  std::string corpus_id;
  std::string hook_name;
  TrainingSpec training;
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
constexpr char kIndexingKind[] = "indexing";
constexpr char kImportKind[] = "import";

// One line with every field, keys sorted: equal specifications give equal text. Unset optional
// fields are null.
std::string ToJson(const TrainingJob& job);
std::string ToJson(const IndexingJob& job);
std::string ToJson(const ImportJob& job);

// The reverse. `json` is what ToJson of this or an older version wrote.
//   errors  InvalidArgument  naming the field
absl::StatusOr<TrainingJob> TrainingJobFromJson(absl::string_view json);
absl::StatusOr<IndexingJob> IndexingJobFromJson(absl::string_view json);
absl::StatusOr<ImportJob> ImportJobFromJson(absl::string_view json);

}  // namespace featurescope
