#include "server/explore/evaluation.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/time/clock.h"
#include "server/base/status.h"
#include "server/catalog/hook_values.h"
#include "server/engine/quantum.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// A context that takes longer than a quantum, but not longer than so many, is computed at once:
// going on from a cache costs time of its own.
constexpr int64_t kMaxOverrun = 2;
constexpr int64_t kMinTokens = 16;
constexpr int64_t kMaxTokens = 65536;
// Logits of one piece; a few such tensors live at a time.
constexpr int64_t kMaxLogitElements = 64 << 20;
constexpr absl::Duration kProgressInterval = absl::Milliseconds(300);
constexpr absl::Duration kMetricsInterval = absl::Seconds(5);
// Shares of the progress bar.
constexpr double kMeanShare = 0.1;

enum Variant { kClean, kSae, kZero, kMean, kVariants };

// Some contexts, or a piece of a long one that is continued through caches.
struct Piece {
  std::vector<std::vector<uint32_t>> contexts;
  bool more = false;         // the last context goes on in the next piece
  uint32_t next_token = 0;   // its next token then
  torch::Tensor counted;     // int64 [counted], rows of tokens that count
  torch::Tensor predicting;  // int64 [predicted], rows whose next token is known
  torch::Tensor targets;     // int64 [predicted]
};

class Evaluation {
 public:
  Evaluation(const EvaluationInputs& inputs, const EvaluationSpec& spec, ContextRange contexts,
             const RunContext& run)
      : inputs_(inputs),
        spec_(spec),
        contexts_(contexts),
        run_(run),
        special_(inputs.special_tokens.begin(), inputs.special_tokens.end()),
        device_(inputs.model->device()) {
    if (inputs.corpus->prepend_bos()) special_.insert(inputs.corpus->bos_id());
    const auto n_parameters = static_cast<double>(inputs.model->n_parameters());
    const double tokens = FlopsPerQuantum(!device_.is_cpu(), run.quantum) / (2 * n_parameters);
    const int64_t fit = std::max<int64_t>(1, kMaxLogitElements / inputs.model->config().d_vocab);
    tokens_per_quantum_ = std::min<int64_t>(
        fit, static_cast<int64_t>(std::clamp(tokens, static_cast<double>(kMinTokens),
                                             static_cast<double>(kMaxTokens))));
  }

  absl::StatusOr<EvaluationResult> Run() {
    RETURN_IF_ERROR(MeasureMean());
    ReconstructionMetrics reconstruction(inputs_.sae->config().d_sae, mean_);
    reconstruction_ = &reconstruction;
    uint64_t at = contexts_.begin;
    while (at < contexts_.end) {
      ASSIGN_OR_RETURN(std::vector<Piece> pieces, NextPieces(&at));
      for (auto& cache : caches_) {
        cache = pieces.size() > 1 ? inputs_.model->NewCache() : nullptr;
      }
      for (const Piece& piece : pieces) RETURN_IF_ERROR(MeasurePiece(piece));
      Report(kMeanShare + (1 - kMeanShare) * Done(at), "comparing predictions", at);
    }
    return Result(reconstruction);
  }

 private:
  double Done(uint64_t at) const {
    return static_cast<double>(at - contexts_.begin) / static_cast<double>(contexts_.size());
  }

  bool Counts(uint32_t token) const { return spec_.special_tokens || !special_.contains(token); }

  absl::Status OnDevice(std::function<absl::Status()> work) {
    return run_.device->RunBackground(run_.cancel,
                                      [&work] { return TorchGate("evaluating", work); });
  }

  // Contexts from *at on that fit a quantum together, or the pieces of one that is too long.
  absl::StatusOr<std::vector<Piece>> NextPieces(uint64_t* at) {
    std::vector<uint32_t> context;
    std::vector<Piece> pieces(1);
    int64_t tokens = 0;
    while (*at < contexts_.end) {
      const int64_t length = inputs_.corpus->ContextLength(*at);
      if (tokens > 0 && tokens + length > tokens_per_quantum_) break;
      RETURN_IF_ERROR(inputs_.corpus->Context(*at, &context));
      ++*at;
      tokens += length;
      if (length > kMaxOverrun * tokens_per_quantum_) {
        pieces = Cut(context);
        break;
      }
      pieces[0].contexts.push_back(context);
    }
    for (Piece& piece : pieces) Finish(&piece);
    return pieces;
  }

  std::vector<Piece> Cut(const std::vector<uint32_t>& context) const {
    std::vector<Piece> pieces;
    const auto step = static_cast<size_t>(tokens_per_quantum_);
    for (size_t begin = 0; begin < context.size(); begin += step) {
      const size_t end = std::min(begin + step, context.size());
      Piece& piece = pieces.emplace_back();
      piece.contexts.emplace_back(context.begin() + static_cast<ptrdiff_t>(begin),
                                  context.begin() + static_cast<ptrdiff_t>(end));
      piece.more = end < context.size();
      if (piece.more) piece.next_token = context[end];
    }
    return pieces;
  }

  void Finish(Piece* piece) const {
    std::vector<int64_t> counted;
    std::vector<int64_t> predicting;
    std::vector<int64_t> targets;
    int64_t row = 0;
    for (const std::vector<uint32_t>& context : piece->contexts) {
      for (size_t i = 0; i < context.size(); ++i, ++row) {
        if (Counts(context[i])) counted.push_back(row);
        const bool last = i + 1 == context.size();
        if (last && !piece->more) continue;
        predicting.push_back(row);
        targets.push_back(last ? piece->next_token : context[i + 1]);
      }
    }
    piece->counted = torch::tensor(counted, torch::kInt64).to(device_);
    piece->predicting = torch::tensor(predicting, torch::kInt64).to(device_);
    piece->targets = torch::tensor(targets, torch::kInt64).to(device_);
  }

  SequenceBatch Batch(const Piece& piece, Variant variant) const {
    SequenceBatch batch;
    for (const std::vector<uint32_t>& context : piece.contexts) {
      batch.Append(context, caches_[variant].get());
    }
    return batch;
  }

  torch::Tensor Rows(const torch::Tensor& value, const HookPoint& hook,
                     const torch::Tensor& counted) const {
    return HookRows(value, hook, inputs_.center_writing_weights).index_select(0, counted);
  }

  // mean_: one pass up to the hook that is measured.
  absl::Status MeasureMean() {
    const HookPoint hook = inputs_.output_hook();
    torch::Tensor sum;
    uint64_t at = contexts_.begin;
    while (at < contexts_.end) {
      ASSIGN_OR_RETURN(const std::vector<Piece> pieces, NextPieces(&at));
      caches_[kClean] = pieces.size() > 1 ? inputs_.model->NewCache() : nullptr;
      for (const Piece& piece : pieces) {
        RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
          HookSet hooks;
          hooks.Add(hook, [&](const HookContext&, torch::Tensor& value) {
            const torch::Tensor rows = Rows(value, hook, piece.counted);
            const torch::Tensor part = rows.sum(0, false, torch::kFloat64);
            sum = sum.defined() ? sum + part : part;
          });
          ForwardOptions options;
          options.hooks = &hooks;
          options.cancel = run_.cancel;
          return inputs_.model->Forward(Batch(piece, kClean), options).status();
        }));
        n_counted_ += piece.counted.numel();
      }
      Report(kMeanShare * Done(at), "measuring the mean", at);
    }
    if (n_counted_ == 0) {
      return FailedPrecondition("the contexts to evaluate hold nothing but special tokens");
    }
    mean_ = sum / static_cast<double>(n_counted_);
    return absl::OkStatus();
  }

  absl::Status MeasurePiece(const Piece& piece) {
    torch::Tensor x;
    torch::Tensor y;
    torch::Tensor clean;
    RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
      HookSet hooks;
      hooks.Add(inputs_.hook, [&](const HookContext& at, torch::Tensor& value) {
        x = Rows(value, at.hook, piece.counted).contiguous();
      });
      const HookPoint hook_out = inputs_.output_hook();
      if (hook_out != inputs_.hook) {
        hooks.Add(hook_out, [&](const HookContext& at, torch::Tensor& value) {
          y = Rows(value, at.hook, piece.counted).contiguous();
        });
      }
      ASSIGN_OR_RETURN(clean, Forward(piece, kClean, hooks));
      if (!y.defined()) y = x;
      return absl::OkStatus();
    }));
    torch::Tensor y_hat;
    RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
      ASSIGN_OR_RETURN(const EncodedRows encoded, inputs_.sae->Encode(x));
      y_hat = inputs_.sae->Decode(encoded);
      reconstruction_->Add(y, y_hat, encoded.acts);
      Predict(piece, kClean, clean, {});
      return absl::OkStatus();
    }));
    for (int v = kSae; v < (spec_.ablations ? kVariants : kZero); ++v) {
      const auto variant = static_cast<Variant>(v);
      RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
        HookSet hooks;
        hooks.Add(inputs_.output_hook(), [&](const HookContext& at, torch::Tensor& value) {
          // What the SAE does not see of the value, its mean where weights are centred, stays.
          const torch::Tensor replaced =
              variant == kSae ? y_hat - y : (variant == kZero ? -y : mean_.to(torch::kFloat32) - y);
          torch::Tensor edited = value.flatten(1).to(torch::kFloat32).clone();
          edited.index_add_(0, piece.counted, replaced);
          value = edited.view_as(value).to(value.scalar_type());
          (void)at;
        });
        ASSIGN_OR_RETURN(const torch::Tensor logits, Forward(piece, variant, hooks));
        Predict(piece, variant, logits, clean);
        return absl::OkStatus();
      }));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<torch::Tensor> Forward(const Piece& piece, Variant variant,
                                        const HookSet& hooks) const {
    ForwardOptions options;
    options.hooks = &hooks;
    options.logits = LogitsOf::kAllTokens;
    options.cancel = run_.cancel;
    return inputs_.model->Forward(Batch(piece, variant), options);
  }

  // Adds what the logits of a piece predict, context by context.
  void Predict(const Piece& piece, Variant variant, const torch::Tensor& logits,
               const torch::Tensor& clean) {
    int64_t begin = 0;
    for (size_t c = 0; c < piece.contexts.size(); ++c) {
      const bool goes_on = c + 1 == piece.contexts.size() && piece.more;
      const int64_t n = static_cast<int64_t>(piece.contexts[c].size()) - (goes_on ? 0 : 1);
      const PredictionSums sums = MeasurePredictions(logits, piece.predicting.narrow(0, begin, n),
                                                     piece.targets.narrow(0, begin, n), clean);
      begin += n;
      std::vector<PredictionSums>& list = predictions_[variant];
      // The further pieces of a long context add to its first.
      const bool continues = c == 0 && continues_[variant];
      if (!continues) list.emplace_back();
      list.back().cross_entropy += sums.cross_entropy;
      list.back().kl += sums.kl;
      if (variant == kClean) {
        if (!continues) predicted_.push_back(0);
        predicted_.back() += static_cast<uint64_t>(n);
      }
    }
    continues_[variant] = piece.more;
  }

  EvaluationResult Result(const ReconstructionMetrics& reconstruction) const {
    EvaluationResult result;
    reconstruction.Report(&result);
    result.n_contexts = predicted_.size();
    ReportPredictions(predicted_, predictions_[kClean], predictions_[kSae], predictions_[kZero],
                      predictions_[kMean], &result);
    return result;
  }

  void Report(double fraction, absl::string_view phase, uint64_t at) {
    const absl::Time now = absl::Now();
    if (run_.on_progress != nullptr && (now - last_report_ >= kProgressInterval || fraction == 1)) {
      last_report_ = now;
      RunProgress progress;
      progress.fraction = fraction;
      progress.phase = std::string(phase);
      progress.tokens_done =
          inputs_.corpus->ContextBegin(at) - inputs_.corpus->ContextBegin(contexts_.begin);
      run_.on_progress(progress);
    }
    if (run_.on_metrics == nullptr || predictions_[kSae].empty() ||
        (now - last_metrics_ < kMetricsInterval && fraction < 1)) {
      return;
    }
    last_metrics_ = now;
    const EvaluationResult result = Result(*reconstruction_);
    RunMetrics metrics;
    metrics.step = result.n_contexts;
    metrics.tokens = result.n_tokens;
    metrics.values = result.metrics;
    run_.on_metrics(metrics);
  }

  const EvaluationInputs& inputs_;
  const EvaluationSpec& spec_;
  const ContextRange contexts_;
  const RunContext& run_;
  absl::flat_hash_set<uint32_t> special_;
  const torch::Device device_;
  int64_t tokens_per_quantum_ = 0;

  torch::Tensor mean_;  // float64 [d_out]
  int64_t n_counted_ = 0;
  ReconstructionMetrics* reconstruction_ = nullptr;
  std::unique_ptr<KvCache> caches_[kVariants];
  std::vector<uint64_t> predicted_;                     // tokens, of each context
  std::vector<PredictionSums> predictions_[kVariants];  // of each context
  bool continues_[kVariants] = {};
  absl::Time last_report_ = absl::InfinitePast();
  absl::Time last_metrics_ = absl::InfinitePast();
};

absl::Status CheckInputs(const EvaluationInputs& in) {
  const ModelConfig& model = in.model->config();
  const SaeConfig& sae = in.sae->config();
  const auto check = [&](const HookPoint& hook, int64_t width,
                         absl::string_view does) -> absl::Status {
    ASSIGN_OR_RETURN(const int64_t has, model.HookWidth(hook));
    if (has == width) return absl::OkStatus();
    return FailedPrecondition("SAE ", in.sae_id, " ", does, " vectors of ", width, " numbers, but ",
                              hook.name(), " has ", has);
  };
  RETURN_IF_ERROR(check(in.hook, sae.d_in, "takes"));
  RETURN_IF_ERROR(check(in.output_hook(), sae.d_out, "gives"));
  if (in.corpus->vocab_size() > model.d_vocab) {
    return FailedPrecondition("the corpus has token ids up to ", in.corpus->vocab_size(),
                              ", the model only up to ", model.d_vocab);
  }
  if (in.corpus->context_size() > model.n_ctx) {
    return FailedPrecondition("the corpus has contexts of ", in.corpus->context_size(),
                              " tokens, the model takes at most ", model.n_ctx);
  }
  return absl::OkStatus();
}

// The first contexts of the part that hold max_tokens.
absl::StatusOr<ContextRange> ContextsOf(const TokenFile& corpus, const EvaluationSpec& spec) {
  constexpr uint64_t kMost = 1ull << 32;
  if (spec.max_tokens < 1 || spec.max_tokens > kMost) {
    return InvalidField("max_tokens", spec.max_tokens, " is out of range [1, ", kMost, "]");
  }
  ContextRange range = corpus.heldout_contexts();
  if (spec.part == EvaluationPart::kHeldOut && range.size() == 0) {
    return FailedPrecondition(
        "this corpus holds nothing out: add it again with a holdout, or evaluate on all of it");
  }
  if (spec.part == EvaluationPart::kAll || range.size() == 0) range = {0, corpus.n_contexts()};
  const uint64_t begin = corpus.ContextBegin(range.begin);
  uint64_t end = range.begin + 1;
  while (end < range.end && corpus.ContextBegin(end + 1) - begin <= spec.max_tokens) ++end;
  range.end = end;
  return range;
}

}  // namespace

absl::StatusOr<EvaluationResult> Evaluate(const EvaluationInputs& inputs,
                                          const EvaluationSpec& spec, const RunContext& context) {
  RETURN_IF_ERROR(CheckInputs(inputs));
  ASSIGN_OR_RETURN(const ContextRange contexts, ContextsOf(*inputs.corpus, spec));
  return Evaluation(inputs, spec, contexts, context).Run();
}

}  // namespace featurescope
