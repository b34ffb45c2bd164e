// state.db: the catalog's rows, the job queue and the jobs' metrics. Every accepted write is on
// disk (synced) before its call returns.
//
// The data directory's lock keeps a second server out; this class assumes it is the only writer.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/base/mutex.h"
#include "server/store/database.h"

namespace featurescope {

// OK for [a-z0-9][a-z0-9._-]{0,63}, else InvalidArgument. `what` is e.g. "model id".
absl::Status CheckId(absl::string_view id, absl::string_view what);

struct ModelRow {
  std::string id;
  std::string path;          // the server's own directory of it
  std::string architecture;  // as in config.json
  uint32_t n_layers = 0;
  uint32_t d_model = 0;
  uint32_t n_heads = 0;
  uint32_t d_head = 0;
  uint32_t d_mlp = 0;
  uint32_t d_vocab = 0;
  uint32_t n_ctx = 0;  // tokens
  uint64_t n_parameters = 0;
  uint64_t memory_bytes = 0;  // once loaded
  bool has_tokenizer = false;
  bool prepend_bos = false;
  std::string tokenizer_hash;           // empty without tokenizer
  std::string hash;                     // over configuration and weights
  std::vector<std::string> hook_names;  // in the order of a forward pass
  std::string tokenizer_kind;           // e.g. "byte-level BPE"; empty without tokenizer
  bool has_chat_template = false;
  std::string source;                 // where it came from
  std::vector<std::string> warnings;  // one line each
  int64_t created_ms = 0;             // since 1970; set when added
};

struct SaeRow {
  std::string id;
  std::string model_id;
  std::string path;
  std::string hook_name;
  std::string architecture;
  uint32_t d_in = 0;
  uint32_t d_sae = 0;
  uint32_t k = 0;  // topk only
  bool apply_b_dec_to_input = false;
  std::string normalize_activations;
  std::string format;         // e.g. "SAELens 6.18.0"
  uint32_t context_size = 0;  // tokens; 0: unknown
  bool prepend_bos = false;
  bool vectors_only = false;
  uint64_t memory_bytes = 0;
  std::string hash;
  std::string training_job_id;          // empty: not trained here
  uint32_t d_out = 0;                   // d_in unless a transcoder
  std::string hook_name_out;            // hook_name unless a transcoder
  std::string main_file;                // in `path`; empty: the directory as a whole
  std::string overrides;                // settings in place of the files', as JSON; opaque here
  std::string file_dtype;               // of the files, e.g. "float16"
  std::string activation;               // in words
  bool prepend_bos_known = false;       // the files say it
  std::vector<std::string> folds;       // what was folded into the weights, one line each
  std::vector<std::string> notes;       // why it was read as it was, one line each
  std::vector<std::string> warnings;    // one line each
  bool center_writing_weights = false;  // the model's activations are centred for this SAE
  std::string trained_on;               // the model as the files name it
  std::string source;                   // where it came from
  int64_t created_ms = 0;
};

struct CorpusRow {
  std::string id;
  std::string model_id;  // whose tokenizer made the tokens
  std::string path;
  uint32_t context_size = 0;
  uint64_t n_tokens = 0;
  uint64_t n_documents = 0;
  uint64_t n_contexts = 0;
  bool prepend_bos = false;
  std::string hash;
  std::string tokenizer_hash;
  uint64_t n_heldout_contexts = 0;  // behind all others
  uint64_t n_heldout_tokens = 0;
  std::string layout = "packed";     // how documents became contexts
  std::vector<std::string> formats;  // of the files, e.g. "csv.gz"
  int64_t created_ms = 0;
};

enum class JobState { kQueued, kRunning, kSucceeded, kFailed, kCancelled, kPaused };
absl::string_view JobStateName(JobState state);  // "queued", ...
constexpr bool IsFinal(JobState s) {
  return s == JobState::kSucceeded || s == JobState::kFailed || s == JobState::kCancelled;
}

// What a new job is.
struct JobSubmission {
  std::string kind;  // e.g. "training"
  std::string spec;  // JSON; opaque here
  // The same key with the same kind and spec gives the job that exists. Empty: none.
  std::string idempotency_key;
  // What only one unfinished job at a time may make, e.g. "sae:my-sae".
  std::string target;
  // What must exist as long as the job is unfinished: "model:ID", "sae:ID", "corpus:ID"; and
  // "cache:ID", an activation cache, whose existence is the submitter's to check.
  std::vector<std::string> uses;
  // As `target`, where a job makes several things.
  std::vector<std::string> more_targets = {};
};

// What a job has downloaded.
struct JobTransfer {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;  // 0: not known yet
  double bytes_per_second = 0;
  uint32_t files_done = 0;
  uint32_t files_total = 0;
};

struct JobRow {
  std::string id;  // 26 characters, sorts by time of submission
  std::string kind;
  std::string spec;
  std::string target;
  JobState state = JobState::kQueued;
  double progress = 0;  // 0 to 1
  std::string phase;
  std::string error;
  int64_t created_ms = 0;  // since 1970; 0: not reached
  int64_t started_ms = 0;
  int64_t finished_ms = 0;
  uint32_t attempt = 0;  // how often it was started
  uint32_t crashes = 0;  // stops of the server while it ran, without progress in between
  bool cancel_requested = false;
  // The fence: grows with each claim. Writes of an older claim change nothing.
  int64_t lease_epoch = 0;
  uint64_t tokens_done = 0;
  double tokens_per_second = 0;
  double eta_seconds = 0;
  JobTransfer transfer = {};
};

struct JobProgress {
  double progress = 0;
  std::string phase;
  uint64_t tokens_done = 0;
  double tokens_per_second = 0;
  double eta_seconds = 0;
  JobTransfer transfer = {};
};

struct JobPage {
  std::vector<JobRow> jobs;
  std::string next_page_token;  // empty: that was the last page
};

struct MetricRow {
  uint64_t step = 0;
  uint64_t tokens = 0;
  std::map<std::string, double> values;  // finite
};

// What an evaluation has found.
struct EvaluationRow {
  std::string job_id;
  std::string sae_id;
  std::string corpus_id;
  std::string spec;        // JSON; opaque here
  std::string result;      // JSON; opaque here
  int64_t created_ms = 0;  // since 1970; set when added
};

struct StateDbOptions {
  absl::Duration lease = absl::Seconds(30);
  // Stops of the server during one job, without progress in between, after which the job fails.
  uint32_t max_crashes = 5;
  // A steady clock in ms. Null: CLOCK_BOOTTIME.
  std::function<int64_t()> clock_ms;
};

// Thread-safe.
class StateDb {
 public:
  // Opens or creates `path`. After an unclean stop the file is checked, and the jobs that ran are
  // queued again (or failed, see max_crashes).
  //
  //   errors  DataLoss            the file is damaged; the message says what to do
  //           FailedPrecondition  written by a newer version
  static absl::StatusOr<std::unique_ptr<StateDb>> Open(const std::string& path,
                                                       const StateDbOptions& options);
  ~StateDb();

  // ---- catalog. Lists are sorted by id. Get: NotFound. Add: AlreadyExists.
  absl::Status AddModel(const ModelRow& row);
  absl::Status AddSae(const SaeRow& row);        // NotFound: its model
  absl::Status AddCorpus(const CorpusRow& row);  // NotFound: its model
  absl::StatusOr<ModelRow> GetModel(absl::string_view id) const;
  absl::StatusOr<SaeRow> GetSae(absl::string_view id) const;
  absl::StatusOr<CorpusRow> GetCorpus(absl::string_view id) const;
  absl::StatusOr<std::vector<ModelRow>> ListModels() const;
  absl::StatusOr<std::vector<SaeRow>> ListSaes() const;
  absl::StatusOr<std::vector<CorpusRow>> ListCorpora() const;
  // NotFound; FailedPrecondition naming what needs it: an SAE, a corpus or an unfinished job.
  absl::Status DeleteModel(absl::string_view id);
  absl::Status DeleteSae(absl::string_view id);
  absl::Status DeleteCorpus(absl::string_view id);

  // ---- jobs.
  // The job, on disk.
  //   errors  AlreadyExists  the key was used with another specification, or another unfinished
  //                          job makes the same target
  //           NotFound       something it uses does not exist
  absl::StatusOr<JobRow> SubmitJob(const JobSubmission& submission);
  // The job that the submission's key was used for; nothing when it was not, or is empty.
  //   errors  AlreadyExists  it was used with another specification
  absl::StatusOr<std::optional<JobRow>> FindSubmitted(const JobSubmission& submission) const;
  absl::StatusOr<JobRow> GetJob(absl::string_view id) const;
  // The newest first. `states` empty: all.
  //   errors  InvalidArgument  a page token that is none
  absl::StatusOr<JobPage> ListJobs(absl::Span<const JobState> states, uint32_t page_size,
                                   absl::string_view page_token) const;
  absl::StatusOr<std::vector<JobRow>> UnfinishedJobs() const;
  // Ids of the unfinished jobs that make or use `resource`, e.g. "cache:acts".
  absl::StatusOr<std::vector<std::string>> UnfinishedJobsWith(absl::string_view resource) const;

  // The oldest queued job (or one whose lease has run out) of one of these kinds, now running and
  // leased to the caller; nothing when none waits. No kinds: any.
  absl::StatusOr<std::optional<JobRow>> ClaimJob(absl::Span<const std::string> kinds = {});

  // Writes of the holder of a lease. Aborted: the lease is lost; the caller must stop and write
  // nothing.
  absl::Status Heartbeat(absl::string_view id, int64_t lease_epoch);
  absl::Status UpdateProgress(absl::string_view id, int64_t lease_epoch,
                              const JobProgress& progress);
  // `state` is final; `error` is kept with kFailed and kCancelled.
  absl::Status FinishJob(absl::string_view id, int64_t lease_epoch, JobState state,
                         absl::string_view error);
  // Gives the lease back: the job waits for something outside, `why` (kPaused), or for its next
  // turn (kQueued). A job whose cancellation was requested becomes cancelled instead.
  absl::Status ReleaseJob(absl::string_view id, int64_t lease_epoch, JobState state,
                          absl::string_view why);
  // Queues a paused job again; a job in another state stays as it is.
  absl::Status ResumeJob(absl::string_view id);
  // A waiting job is cancelled at once, a running one marked. Answers the job as it is then.
  //   errors  NotFound; FailedPrecondition  it has finished
  absl::StatusOr<JobRow> RequestCancel(absl::string_view id);

  // ---- metrics.
  // In ascending order of steps. Points of the first one's step and later are replaced: a job that
  // resumes repeats some. Aborted: the lease is lost.
  absl::Status AppendMetrics(absl::string_view job_id, int64_t lease_epoch,
                             absl::Span<const MetricRow> points);
  // At most `max_points` (at least 2) evenly thinned by order, the first and the last among them;
  // fewer where they would be more than some megabytes. A point has, too, what only one of those
  // left out before it has: metrics that are measured now and then do not get lost.
  absl::StatusOr<std::vector<MetricRow>> GetMetrics(absl::string_view job_id,
                                                    uint32_t max_points) const;

  // ---- evaluations. They go with their SAE.
  // A job has one result: adding a second changes nothing. Aborted: the lease is lost.
  absl::Status AddEvaluation(const EvaluationRow& row, int64_t lease_epoch);
  absl::StatusOr<bool> HasEvaluation(absl::string_view job_id) const;
  // Of one SAE, or of all (empty), the newest first, kMaxEvaluations at most.
  absl::StatusOr<std::vector<EvaluationRow>> ListEvaluations(absl::string_view sae_id) const;
  static constexpr int kMaxEvaluations = 1000;

  const std::string& path() const { return path_; }

 private:
  StateDb(std::string path, StateDbOptions options);
  absl::Status Prepare(bool unclean) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // Queues what ran when the server stopped, or fails it.
  absl::Status Recover() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // `table` is model, sae or corpus.
  absl::Status Delete(absl::string_view table, absl::string_view id);
  absl::Status CheckSubmission(const JobSubmission& submission)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // AlreadyExists: an unfinished job makes it.
  absl::Status CheckTarget(absl::string_view target) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  // Runs an UPDATE of job whose last two parameters, `id_index` and the one after it, are the id
  // and the epoch of a lease. Aborted unless it changed a row.
  absl::Status RunFenced(Statement& update, int id_index, absl::string_view id, int64_t lease_epoch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);
  int64_t SteadyMs() const;
  // An id above all that were given out before.
  std::string NewJobId() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);

  const std::string path_;
  const StateDbOptions options_;
  mutable Mutex write_mutex_;
  std::unique_ptr<Database> writer_ ABSL_GUARDED_BY(write_mutex_);
  std::string last_job_id_ ABSL_GUARDED_BY(write_mutex_);
  mutable Mutex read_mutex_;
  std::unique_ptr<Database> reader_ ABSL_GUARDED_BY(read_mutex_);
};

}  // namespace featurescope
