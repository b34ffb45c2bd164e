#include "server/jobs/caching_job.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/catalog/staging.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/jobs/job_inputs.h"
#include "server/train/activation_cache.h"
#include "server/train/activation_files.h"

namespace featurescope {
namespace {

using Json = nlohmann::json;

constexpr char kSpecification[] = "job specification";
constexpr DType kDTypes[] = {DType::kF16, DType::kBF16, DType::kF32};
constexpr size_t kMaxHooks = 64;
// A shard's activations are in memory, in float32, while it is made.
constexpr uint64_t kShardBytes = 256u << 20;
constexpr uint64_t kMinShardRows = 1024;
constexpr uint64_t kMaxShardRows = 1 << 18;
// What stays free on the disk beside the cache.
constexpr uint64_t kSpareBytes = 64u << 20;

std::string Gigabytes(uint64_t bytes) {
  return absl::StrFormat("%.3g GB", static_cast<double>(bytes) / 1e9);
}

absl::StatusOr<TrainingInputs> LoadCachingInputs(Catalog* catalog, const CachingJob& job) {
  TrainingInputs inputs;
  ASSIGN_OR_RETURN(const ModelRow model, catalog->GetModel(job.model_id));
  ASSIGN_OR_RETURN(inputs.model, catalog->LoadedModel(job.model_id));
  ASSIGN_OR_RETURN(CorpusHandle corpus, catalog->LoadedCorpus(job.corpus_id));
  inputs.corpus = std::move(corpus.tokens);
  inputs.model_name = job.model_id;
  ASSIGN_OR_RETURN(inputs.special_tokens, SpecialTokensOf(catalog, model, *inputs.model));
  return inputs;
}

// The same for the same job, or an interrupted one could not continue.
absl::StatusOr<ActivationCacheSpec> CacheSpec(const TrainingInputs& inputs, const CachingJob& job) {
  ActivationCacheSpec spec;
  spec.dtype = job.dtype;
  spec.exclude_special_tokens = !job.special_tokens;
  uint64_t row_bytes = 0;
  for (const std::string& name : job.hook_names) {
    ASSIGN_OR_RETURN(spec.hooks.emplace_back(), HookPoint::Parse(name));
    ASSIGN_OR_RETURN(const int64_t width, inputs.model->config().HookWidth(spec.hooks.back()));
    row_bytes += 4 * static_cast<uint64_t>(width);
  }
  // Not more shards than there may be, however large the corpus.
  const uint64_t fewest = 2 * inputs.corpus->n_tokens() / kMaxActivationShards;
  const uint64_t fit = kShardBytes / std::max<uint64_t>(1, row_bytes);
  spec.rows_per_shard = std::max(std::clamp(fit, kMinShardRows, kMaxShardRows), fewest);
  return spec;
}

uint64_t BytesIn(const std::string& dir) {
  uint64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code of_file;
    const uint64_t size = it->file_size(of_file);
    if (!of_file) bytes += size;
  }
  return bytes;
}

// That the rest of the cache fits on the disk.
absl::Status CheckRoom(const Catalog& catalog, uint64_t bytes, const std::string& dir) {
  std::error_code error;
  const auto space = std::filesystem::space(catalog.data_dir(), error);
  if (error) return ErrnoStatus(error.value(), catalog.data_dir());
  return CheckRoomForCache(bytes, BytesIn(dir), space.available, catalog.data_dir());
}

absl::Status CheckHooks(const ModelConfig& config, const CachingJob& job) {
  if (job.hook_names.empty() || job.hook_names.size() > kMaxHooks) {
    return InvalidField("hook_names", "there are ", job.hook_names.size(), " hook points, 1 to ",
                        kMaxHooks, " are possible");
  }
  std::set<std::string> names;
  for (const std::string& name : job.hook_names) {
    const absl::StatusOr<HookPoint> hook = HookPoint::Parse(name);
    if (!hook.ok()) return InvalidField("hook_names", hook.status().message());
    const absl::StatusOr<int64_t> width = config.HookWidth(*hook);
    if (!width.ok()) return InvalidField("hook_names", width.status().message());
    if (!names.insert(hook->name()).second) {
      return InvalidField("hook_names", hook->name(), " is named twice");
    }
  }
  return absl::OkStatus();
}

// Names of the directories in activations/.
std::vector<std::string> CacheIds(const Catalog& catalog) {
  std::vector<std::string> ids;
  const std::string dir = JoinPath(catalog.data_dir(), "activations");
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    std::string name = it->path().filename().string();
    if (CheckId(name, "").ok()) ids.push_back(std::move(name));
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

bool IsComplete(const std::string& dir) { return FileExists(JoinPath(dir, kActivationCacheFile)); }

absl::StatusOr<ActivationCacheEntry> ReadEntry(const std::string& id, const std::string& dir) {
  // kMaxHooks channels of that are less than 2^64 bytes.
  constexpr int64_t kMaxRows = int64_t{1} << 38;
  constexpr int64_t kMaxWidth = 1 << 17;
  const std::string path = JoinPath(dir, kActivationCacheFile);
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path));
  ActivationCacheEntry entry;
  entry.id = id;
  ASSIGN_OR_RETURN(entry.dtype, JsonString(json, "dtype", path));
  ASSIGN_OR_RETURN(const DType dtype, ParseCacheDType(entry.dtype));
  ASSIGN_OR_RETURN(const int64_t rows, JsonInt(json, "rows", path, 0, kMaxRows));
  entry.n_rows = static_cast<uint64_t>(rows);
  const Json* channels = JsonFind(json, "channels");
  if (channels == nullptr || !channels->is_array() || channels->size() > kMaxHooks) {
    return InvalidArgument(path, ": field channels is no array of 1 to ", kMaxHooks);
  }
  uint64_t row_bytes = 0;
  for (const Json& channel : *channels) {
    ASSIGN_OR_RETURN(entry.hook_names.emplace_back(), JsonString(channel, "hook", path));
    ASSIGN_OR_RETURN(const int64_t width, JsonInt(channel, "width", path, 1, kMaxWidth));
    entry.widths.push_back(static_cast<uint32_t>(width));
    row_bytes += static_cast<uint64_t>(width) * (dtype == DType::kF32 ? 4 : 2);
  }
  entry.bytes = entry.n_rows * row_bytes;
  return entry;
}

// Tells bytes and rates of a run that tells tokens.
class CachingMeter {
 public:
  CachingMeter(const CachingObserver& observer, uint64_t bytes)
      : observer_(observer), bytes_(bytes) {}

  void Tell(RunProgress progress) {
    const absl::Time now = absl::Now();
    const auto done = static_cast<uint64_t>(progress.fraction * static_cast<double>(bytes_));
    if (!begun_) {
      // What was there already was not written now.
      begun_ = true;
      begin_ = now;
      first_tokens_ = progress.tokens_done;
      first_bytes_ = done;
    }
    const double seconds = absl::ToDoubleSeconds(now - begin_);
    JobTransfer transfer;
    transfer.bytes_done = done;
    transfer.bytes_total = bytes_;
    if (seconds > 0) {
      progress.tokens_per_second =
          static_cast<double>(progress.tokens_done - first_tokens_) / seconds;
      transfer.bytes_per_second = static_cast<double>(done - first_bytes_) / seconds;
    }
    observer_(progress, transfer);
    last_ = progress;
  }

  // Before, the bytes were an estimate: not every special token of the corpus was known.
  void TellEnd(uint64_t bytes) {
    JobTransfer transfer;
    transfer.bytes_done = transfer.bytes_total = bytes;
    last_.fraction = 1;
    observer_(last_, transfer);
  }

 private:
  const CachingObserver& observer_;
  const uint64_t bytes_;
  bool begun_ = false;
  absl::Time begin_;
  uint64_t first_tokens_ = 0;
  uint64_t first_bytes_ = 0;
  RunProgress last_;
};

}  // namespace

absl::string_view CacheDTypeName(DType dtype) {
  return dtype == DType::kF16 ? "float16" : dtype == DType::kF32 ? "float32" : "bfloat16";
}

absl::StatusOr<DType> ParseCacheDType(absl::string_view name) {
  if (name.empty()) return DType::kBF16;
  for (const DType dtype : kDTypes) {
    if (CacheDTypeName(dtype) == name) return dtype;
  }
  return InvalidField("dtype", "dtype is \"", name, "\", it must be float16, bfloat16 or float32");
}

absl::Status CheckRoomForCache(uint64_t bytes, uint64_t written, uint64_t available,
                               absl::string_view where) {
  const uint64_t rest = bytes - std::min(bytes, written);
  if (available >= kSpareBytes && rest <= available - kSpareBytes) return absl::OkStatus();
  return ResourceExhausted("no room on the disk: the activations take ", Gigabytes(rest),
                           rest < bytes ? " more" : "", ", ", Gigabytes(available), " are free in ",
                           where, "; cache fewer hook points, 16-bit numbers, or a smaller corpus");
}

std::string ToJson(const CachingJob& job) {
  const Json json = {{"cache_id", job.cache_id},
                     {"model_id", job.model_id},
                     {"corpus_id", job.corpus_id},
                     {"hook_names", job.hook_names},
                     {"dtype", std::string(CacheDTypeName(job.dtype))},
                     {"special_tokens", job.special_tokens}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<CachingJob> CachingJobFromJson(absl::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, kSpecification));
  CachingJob job;
  ASSIGN_OR_RETURN(job.cache_id, JsonString(json, "cache_id", kSpecification));
  ASSIGN_OR_RETURN(job.model_id, JsonString(json, "model_id", kSpecification));
  ASSIGN_OR_RETURN(job.corpus_id, JsonString(json, "corpus_id", kSpecification));
  ASSIGN_OR_RETURN(const std::string dtype, JsonStringOr(json, "dtype", kSpecification, ""));
  ASSIGN_OR_RETURN(job.dtype, ParseCacheDType(dtype));
  ASSIGN_OR_RETURN(job.special_tokens, JsonBoolOr(json, "special_tokens", kSpecification, false));
  const Json* hooks = JsonFind(json, "hook_names");
  if (hooks == nullptr || !hooks->is_array()) {
    return InvalidArgument(kSpecification, ": field hook_names is no array");
  }
  for (const Json& hook : *hooks) {
    if (!hook.is_string()) return InvalidArgument(kSpecification, ": a hook name is no text");
    job.hook_names.push_back(hook.get<std::string>());
  }
  return job;
}

absl::Status CheckCaching(Catalog* catalog, const CachingJob& job) {
  ASSIGN_OR_RETURN(const std::string dir, catalog->ActivationCacheDir(job.cache_id));
  ASSIGN_OR_RETURN(const ModelConfig config, catalog->Config(job.model_id));
  ASSIGN_OR_RETURN(const CorpusRow corpus, catalog->GetCorpus(job.corpus_id));
  RETURN_IF_ERROR(CheckHooks(config, job));
  if (IsComplete(dir)) {
    return AlreadyExists("activation cache \"", job.cache_id,
                         "\" exists; make it under another id, or delete it first");
  }
  if (corpus.context_size > config.n_ctx) {
    return FailedPrecondition("corpus \"", corpus.id, "\" has contexts of ", corpus.context_size,
                              " tokens; model \"", job.model_id, "\" takes at most ", config.n_ctx);
  }
  ASSIGN_OR_RETURN(const TrainingInputs inputs, LoadCachingInputs(catalog, job));
  ASSIGN_OR_RETURN(const ActivationCacheSpec spec, CacheSpec(inputs, job));
  ASSIGN_OR_RETURN(const uint64_t bytes, ActivationCacheBytes(inputs, spec));
  return CheckRoom(*catalog, bytes, dir);
}

absl::Status RunCachingJob(Catalog* catalog, const JobRow& row, const RunContext& context,
                           const CachingObserver& observer) {
  ASSIGN_OR_RETURN(const CachingJob job, CachingJobFromJson(row.spec));
  ASSIGN_OR_RETURN(const std::string dir, catalog->ActivationCacheDir(job.cache_id));
  // What lies there before a job's first attempt is another's, which has ended.
  if (row.attempt <= 1 && !IsComplete(dir)) RemoveTree(dir);
  ASSIGN_OR_RETURN(const TrainingInputs inputs, LoadCachingInputs(catalog, job));
  ASSIGN_OR_RETURN(const ActivationCacheSpec spec, CacheSpec(inputs, job));
  ASSIGN_OR_RETURN(const uint64_t bytes, ActivationCacheBytes(inputs, spec));
  RETURN_IF_ERROR(CheckRoom(*catalog, bytes, dir));
  CachingMeter meter(observer, bytes);
  RunContext run = context;
  run.on_progress = [&meter](const RunProgress& progress) { meter.Tell(progress); };
  RETURN_IF_ERROR(WriteActivationCache(inputs, spec, run, dir));
  ASSIGN_OR_RETURN(const ActivationCacheEntry entry, ReadEntry(job.cache_id, dir));
  meter.TellEnd(entry.bytes);
  return absl::OkStatus();
}

std::vector<ActivationCacheEntry> ListActivationCaches(const Catalog& catalog) {
  std::vector<ActivationCacheEntry> entries;
  for (const std::string& id : CacheIds(catalog)) {
    const std::string dir = catalog.ActivationCacheDir(id).value();
    if (!IsComplete(dir)) continue;
    absl::StatusOr<ActivationCacheEntry> entry = ReadEntry(id, dir);
    if (entry.ok()) {
      entries.push_back(*std::move(entry));
    } else {
      LogWarning("activation cache ", id, ": ", entry.status().message());
    }
  }
  return entries;
}

absl::Status DeleteActivationCache(Catalog* catalog, absl::string_view id) {
  ASSIGN_OR_RETURN(const std::string dir, catalog->ActivationCacheDir(id));
  if (!IsComplete(dir)) {
    const std::vector<ActivationCacheEntry> entries = ListActivationCaches(*catalog);
    const auto append = [](std::string* out, const ActivationCacheEntry& entry) {
      out->append(entry.id);
    };
    return NotFound("no activation cache \"", id, "\"; ",
                    entries.empty()
                        ? "there is none yet"
                        : absl::StrCat("there are: ", absl::StrJoin(entries, ", ", append)));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> jobs,
                   catalog->state().UnfinishedJobsWith(absl::StrCat("cache:", id)));
  if (!jobs.empty()) {
    return FailedPrecondition("activation cache \"", id, "\" is needed by job ",
                              absl::StrJoin(jobs, ", "));
  }
  // First what makes it a cache: nothing opens a half of it.
  std::error_code error;
  std::filesystem::remove(JoinPath(dir, kActivationCacheFile), error);
  if (error) return ErrnoStatus(error.value(), dir);
  RemoveTree(dir);
  return absl::OkStatus();
}

void RemoveIncompleteCaches(Catalog* catalog) {
  for (const std::string& id : CacheIds(*catalog)) {
    const std::string dir = catalog->ActivationCacheDir(id).value();
    if (IsComplete(dir)) continue;
    const auto jobs = catalog->state().UnfinishedJobsWith(absl::StrCat("cache:", id));
    if (jobs.ok() && jobs->empty()) RemoveTree(dir);
  }
}

}  // namespace featurescope
