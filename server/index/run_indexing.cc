#include "server/index/run_indexing.h"

#include <stdio.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "server/base/bounded_queue.h"
#include "server/base/hash.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/index/activation_source.h"
#include "server/index/checkpoint.h"
#include "server/index/logit_effects.h"
#include "server/index/write_index.h"
#include "server/model/centring.h"
#include "server/store/index_db.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

constexpr uint64_t kMaxIndexTokens = 0xffffffff;  // what a histogram's bin can count
constexpr int kMaxAccumulatorThreads = 8;
constexpr size_t kBatchesInFlight = 2;
constexpr absl::Duration kProgressInterval = absl::Milliseconds(300);
constexpr absl::Duration kMetricsInterval = absl::Seconds(1);
// Shares of the progress bar.
constexpr double kPassShare = 0.9;
constexpr double kLogitsShare = 0.05;

absl::Status CheckField(absl::string_view name, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidArgument(name, " ", value, " is out of range [", low, ", ", high, "]");
}

AccumulatorOptions OptionsOf(const IndexSpec& spec) {
  AccumulatorOptions options;
  options.top_examples = spec.top_examples;
  options.n_strata = StratifiedSamples::StrataFor(spec.bands);
  // One more than needed, for bands that cut strata.
  options.per_stratum = spec.examples_per_band == 0 ? 0 : spec.examples_per_band + 1;
  options.window = spec.window;
  options.seed = spec.seed;
  return options;
}

absl::Status CheckInputs(const IndexInputs& in) {
  const ModelConfig& model = in.model->config();
  const SaeConfig& sae = in.sae->config();
  ASSIGN_OR_RETURN(const int64_t width, model.HookWidth(in.hook));
  if (width != sae.d_in) {
    return FailedPrecondition("SAE ", in.sae_id, " takes vectors of ", sae.d_in, " numbers, but ",
                              in.hook.name(), " of model ", in.model_id, " has ", width);
  }
  if (in.sae->is_transcoder() && !in.hook_out.has_value()) {
    return FailedPrecondition("SAE ", in.sae_id,
                              " is a transcoder of which it is not known what it writes");
  }
  ASSIGN_OR_RETURN(const int64_t width_out, model.HookWidth(in.output_hook()));
  if (width_out != sae.d_out) {
    return FailedPrecondition("SAE ", in.sae_id, " gives vectors of ", sae.d_out, " numbers, but ",
                              in.output_hook().name(), " of model ", in.model_id, " has ",
                              width_out);
  }
  if (sae.d_sae > kMaxIndexFeatures) {
    return FailedPrecondition("SAE ", in.sae_id, " has ", sae.d_sae, " features; an index holds ",
                              "at most ", kMaxIndexFeatures);
  }
  if (in.corpus->context_size() > model.n_ctx) {
    return FailedPrecondition("corpus ", in.corpus_id, " has contexts of ",
                              in.corpus->context_size(), " tokens; model ", in.model_id,
                              " takes at most ", model.n_ctx);
  }
  if (in.corpus->vocab_size() > model.d_vocab) {
    return FailedPrecondition("corpus ", in.corpus_id, " has a vocabulary of ",
                              in.corpus->vocab_size(), " tokens; model ", in.model_id, " has ",
                              model.d_vocab);
  }
  if (in.tokenizer != nullptr && !in.corpus->spec().tokenizer_hash.empty() &&
      in.corpus->spec().tokenizer_hash != in.tokenizer->hash()) {
    return FailedPrecondition("corpus ", in.corpus_id,
                              " was made with another tokenizer than that ", "of model ",
                              in.model_id);
  }
  return absl::OkStatus();
}

// How many contexts, from the first, have at most so many tokens together.
uint64_t ContextsWithin(const TokenFile& corpus, uint64_t max_tokens) {
  uint64_t low = 0;
  uint64_t high = corpus.n_contexts();
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (corpus.ContextBegin(middle) <= max_tokens) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Everything that decides what the file will hold.
std::string FingerprintOf(const IndexInputs& in, const IndexSpec& spec, const BatchPlan& plan) {
  std::string text =
      absl::StrCat(in.model->hash(), "|", DtypeName(in.model->dtype()), "|", in.sae->hash(), "|",
                   in.sae->config().d_sae, "|", in.corpus->hash(), "|", in.hook.name(), "|",
                   in.output_hook().name(), "|", in.center_writing_weights, "|", spec.max_tokens,
                   "|", spec.top_examples, "|", spec.bands, "|", spec.examples_per_band, "|",
                   spec.window, "|", spec.decode_every, "|", spec.seed, "|",
                   plan.contexts_per_batch, "|", plan.tokens_per_quantum, "|");
  for (const bool special : SpecialTokens(in)) text.push_back(special ? '1' : '0');
  return Sha256Hex(text);
}

// One run, from the checkpoint that it finds to the finished file.
class IndexingRun {
 public:
  IndexingRun(const IndexInputs& inputs, const IndexSpec& spec, const BatchPlan& plan,
              const RunContext& run, std::string output_path)
      : inputs_(inputs),
        spec_(spec),
        plan_(plan),
        run_(run),
        output_path_(std::move(output_path)),
        checkpoint_path_(JoinPath(run.work_dir, "indexing.checkpoint")),
        fingerprint_(FingerprintOf(inputs, spec, plan)),
        source_(inputs_, plan_, spec_.decode_every),
        n_contexts_(ContextsWithin(*inputs.corpus, spec.max_tokens)),
        threads_(inputs.sae->device().is_cpu()
                     ? 1  // accumulating is little work, and the cores are the forward pass's
                     : std::clamp<int>(static_cast<int>(std::thread::hardware_concurrency()), 1,
                                       kMaxAccumulatorThreads)) {}

  absl::Status Run() {
    RETURN_IF_ERROR(EnsureDir(run_.work_dir));
    // An output that cannot be written is found before the work, not after.
    RETURN_IF_ERROR(IndexWriter::Create(output_path_).status());
    Restore();
    started_ = absl::Now() - absl::Seconds(state_->seconds);
    absl::Status status = Pass();
    if (status.ok()) status = Finish();
    if (!status.ok()) {
      SaveWhatIsDone();
      return status;
    }
    ::remove(checkpoint_path_.c_str());
    return absl::OkStatus();
  }

 private:
  void Restore() {
    const AccumulatorOptions options = OptionsOf(spec_);
    state_.emplace(inputs_.sae->config().d_sae, options);
    const absl::Status status = LoadIndexingState(checkpoint_path_, fingerprint_, &*state_);
    if (status.ok()) {
      LogInfo("indexing continues at context ", state_->next_context, " of ", n_contexts_);
    } else {
      if (!absl::IsNotFound(status)) {
        LogWarning("indexing starts over: ", status.message());
      }
      state_.emplace(inputs_.sae->config().d_sae, options);
    }
    saved_context_ = state_->next_context;
    last_save_ = absl::Now();
  }

  // Computes what is left of the corpus: a second thread drives the device, this one accumulates,
  // so the device never waits for it.
  absl::Status Pass();
  void Produce(BoundedQueue<absl::StatusOr<ActivationBatch>>& batches, uint64_t next) const;
  absl::Status Accumulate(const ActivationBatch& batch);
  absl::Status Finish();

  absl::Status Save() {
    state_->seconds = absl::ToDoubleSeconds(absl::Now() - started_);
    RETURN_IF_ERROR(SaveIndexingState(checkpoint_path_, fingerprint_, *state_));
    saved_context_ = state_->next_context;
    last_save_ = absl::Now();
    return absl::OkStatus();
  }

  void SaveWhatIsDone() {
    if (failed_ || state_->next_context == saved_context_) return;
    const absl::Status status = Save();
    if (!status.ok()) LogWarning("no checkpoint of indexing was written: ", status.message());
  }

  // Tells the progress: when a new phase begins, and a few times a second.
  void Report(double fraction, absl::string_view phase);
  void ReportMetrics();

  const IndexInputs& inputs_;
  const IndexSpec spec_;
  const BatchPlan plan_;
  const RunContext& run_;
  const std::string output_path_;
  const std::string checkpoint_path_;
  const std::string fingerprint_;
  const ContextActivations source_;
  const uint64_t n_contexts_;
  const int threads_;

  std::optional<IndexingState> state_;
  bool failed_ = false;  // the state is in the middle of a batch
  absl::Time started_;   // had it run without a stop
  uint64_t saved_context_ = 0;
  absl::Time last_save_;
  std::string last_phase_;
  absl::Time last_report_ = absl::InfinitePast();
  uint64_t last_report_tokens_ = 0;
  double tokens_per_second_ = 0;
  absl::Time last_metrics_ = absl::InfinitePast();
};

void IndexingRun::Produce(BoundedQueue<absl::StatusOr<ActivationBatch>>& batches,
                          uint64_t next) const {
  while (next < n_contexts_) {
    const uint64_t n = std::min<uint64_t>(plan_.contexts_per_batch, n_contexts_ - next);
    absl::StatusOr<ActivationBatch> batch = source_.Compute(next, n, run_);
    const bool ok = batch.ok();
    if (!batches.Push(std::move(batch)) || !ok) break;
    next += n;
  }
  batches.Close();
}

absl::Status IndexingRun::Pass() {
  BoundedQueue<absl::StatusOr<ActivationBatch>> batches(kBatchesInFlight);
  std::thread producer([&, next = state_->next_context] { Produce(batches, next); });
  absl::Status status;
  while (status.ok()) {
    std::optional<absl::StatusOr<ActivationBatch>> batch = batches.Pop();
    if (!batch.has_value()) break;
    status = batch->ok() ? Accumulate(**batch) : batch->status();
    if (status.ok() && absl::Now() - last_save_ >= spec_.checkpoint_interval) status = Save();
  }
  batches.Close();
  producer.join();
  return status;
}

absl::Status IndexingRun::Accumulate(const ActivationBatch& batch) {
  failed_ = true;
  RETURN_IF_ERROR(state_->features.Add(batch.by_feature(), threads_));
  failed_ = false;
  state_->reconstruction.Merge(batch.reconstruction);
  state_->next_context += batch.n_contexts();
  state_->tokens_done += batch.n_tokens();
  Report(kPassShare * static_cast<double>(state_->next_context) / static_cast<double>(n_contexts_),
         "indexing");
  ReportMetrics();
  return absl::OkStatus();
}

absl::Status IndexingRun::Finish() {
  IndexResults results;
  results.state = &*state_;
  RETURN_IF_ERROR(run_.device->RunBackground(run_.cancel, [&] {
    return TorchGate("measuring the decoder", [&] {
      const torch::Tensor norms =
          inputs_.sae->parameters().W_dec.norm(2, 1).to(torch::kFloat64).cpu().contiguous();
      results.decoder_norms.assign(norms.data_ptr<double>(),
                                   norms.data_ptr<double>() + norms.numel());
    });
  }));
  if (spec_.logit_effects > 0 && IsCentredByWriting(inputs_.output_hook().kind)) {
    ASSIGN_OR_RETURN(results.logit_effects,
                     ComputeLogitEffects(*inputs_.model, *inputs_.sae, spec_.logit_effects, run_,
                                         [this](double share) {
                                           Report(kPassShare + kLogitsShare * share,
                                                  "computing logit effects");
                                         }));
  }
  state_->seconds = absl::ToDoubleSeconds(absl::Now() - started_);
  LogInfo("indexed ", state_->tokens_done, " tokens: ", state_->features.n_alive(), " of ",
          state_->features.d_sae(), " features fired; accumulators took ",
          state_->features.memory_bytes() >> 20, " MiB");
  const double written = kPassShare + kLogitsShare;
  RETURN_IF_ERROR(WriteIndex(
      inputs_, spec_, results, run_.cancel,
      [this, written](double share) { Report(written + (1 - written) * share, "writing"); },
      output_path_));
  Report(1, "writing");
  return absl::OkStatus();
}

void IndexingRun::Report(double fraction, absl::string_view phase) {
  const absl::Time now = absl::Now();
  if (run_.on_progress == nullptr ||
      (phase == last_phase_ && fraction < 1 && now - last_report_ < kProgressInterval)) {
    return;
  }
  const double seconds = absl::ToDoubleSeconds(now - last_report_);
  const uint64_t tokens = state_->tokens_done - last_report_tokens_;
  if (last_report_ != absl::InfinitePast() && tokens > 0 && seconds > 0) {
    const double latest = static_cast<double>(tokens) / seconds;
    tokens_per_second_ = tokens_per_second_ == 0 ? latest : 0.7 * tokens_per_second_ + 0.3 * latest;
  }
  last_phase_ = std::string(phase);
  last_report_ = now;
  last_report_tokens_ = state_->tokens_done;
  RunProgress progress;
  progress.fraction = fraction;
  progress.phase = last_phase_;
  progress.tokens_done = state_->tokens_done;
  progress.tokens_per_second = tokens_per_second_;
  run_.on_progress(progress);
}

void IndexingRun::ReportMetrics() {
  const absl::Time now = absl::Now();
  if (run_.on_metrics == nullptr || now - last_metrics_ < kMetricsInterval) return;
  last_metrics_ = now;
  const FeatureAccumulators& features = state_->features;
  const auto n_counted = static_cast<double>(std::max<uint64_t>(features.n_counted_tokens(), 1));
  RunMetrics metrics;
  metrics.step = state_->next_context;
  metrics.tokens = state_->tokens_done;
  metrics.values["l0"] = static_cast<double>(features.n_activations()) / n_counted;
  metrics.values["explained_variance"] = state_->reconstruction.ExplainedVariance();
  metrics.values["alive_share"] =
      static_cast<double>(features.n_alive()) / static_cast<double>(features.d_sae());
  run_.on_metrics(metrics);
}

}  // namespace

absl::Status IndexSpec::Resolve(const TokenFile& corpus) {
  RETURN_IF_ERROR(CheckField("top_examples", top_examples, 1, 1000));
  RETURN_IF_ERROR(CheckField("bands", bands, 1, 50));
  RETURN_IF_ERROR(CheckField("examples_per_band", examples_per_band, 0, 100));
  RETURN_IF_ERROR(CheckField("window", window, 0, 1024));
  RETURN_IF_ERROR(CheckField("logit_effects", logit_effects, 0, 100));
  RETURN_IF_ERROR(CheckField("decode_every", decode_every, 1, 1000000));
  if (checkpoint_interval < absl::ZeroDuration()) {
    return InvalidArgument("checkpoint_interval ", absl::FormatDuration(checkpoint_interval),
                           " is negative");
  }
  const uint64_t context = corpus.context_size();
  if (max_tokens == 0) {
    max_tokens = corpus.n_tokens();
    if (max_tokens > kMaxIndexTokens) {
      return InvalidArgument("the corpus has ", max_tokens, " tokens, of which at most ",
                             kMaxIndexTokens, " can be indexed: set max_tokens");
    }
  } else if (max_tokens < corpus.n_tokens()) {
    RETURN_IF_ERROR(CheckField("max_tokens", max_tokens, context, kMaxIndexTokens));
    max_tokens = corpus.ContextBegin(ContextsWithin(corpus, max_tokens));
  } else {
    RETURN_IF_ERROR(CheckField("max_tokens", corpus.n_tokens(), 1, kMaxIndexTokens));
    max_tokens = corpus.n_tokens();
  }
  return absl::OkStatus();
}

uint64_t IndexMemoryBound(int64_t d_sae, const IndexSpec& spec) {
  return FeatureAccumulators::MemoryBound(d_sae, OptionsOf(spec));
}

absl::Status RunIndexing(const IndexInputs& inputs, const IndexSpec& spec,
                         const RunContext& context, const std::string& output_path) {
  IndexSpec resolved = spec;
  RETURN_IF_ERROR(resolved.Resolve(*inputs.corpus));
  RETURN_IF_ERROR(CheckInputs(inputs));
  const SaeConfig& sae = inputs.sae->config();
  const BatchPlan plan =
      PlanBatches(inputs.model->config(), inputs.hook, sae, inputs.corpus->context_size(),
                  !inputs.sae->device().is_cpu(), context.quantum);
  LogInfo("indexing SAE ", inputs.sae_id, " over ", resolved.max_tokens, " tokens of corpus ",
          inputs.corpus_id, "; accumulators take at most ",
          IndexMemoryBound(sae.d_sae, resolved) >> 20, " MiB, and a few percent of it where ",
          "features are sparse");
  return IndexingRun(inputs, resolved, plan, context, output_path).Run();
}

}  // namespace featurescope
