#include "server/explore/check_sae.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/base/status.h"
#include "server/catalog/hook_values.h"
#include "server/explore/sae_fit.h"
#include "server/explore/sae_readings.h"
#include "server/model/centring.h"
#include "server/model/hooks.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// Published SAEs explain 0.57 to 0.99; below 0.3 none is known that was read rightly, but for
// residual streams whose few huge dimensions decide alone.
constexpr double kGoodVariance = 0.5;
constexpr double kBadVariance = 0.2;
// A change is named when it takes this share of the unexplained variance away.
constexpr double kClearly = 0.4;
constexpr double kMinLength = 0.6;
constexpr double kMaxLength = 1.6;
// More active features than this share of all, or than d_in: a sparse code is something else.
constexpr double kMaxActiveShare = 0.25;
constexpr size_t kMaxBetter = 3;
// Changes that leave up to this many times as much unexplained as the best may be the cause too.
constexpr double kAsGood = 1.5;
// What other hook points may cost, in multiply-adds of the encoder.
constexpr double kCpuBudget = 4e11;
constexpr double kGpuBudget = 4e13;
constexpr int64_t kMinRowsElsewhere = 64;

// A pair of hook points.
struct Place {
  HookPoint hook;
  HookPoint hook_out;
};

std::string Number(double value) { return absl::StrFormat("%.4g", value); }

bool SparsityIsSane(const SaeFit& fit, const SaeConfig& config) {
  return fit.l0 >= 0.5 && fit.l0 <= std::min(static_cast<double>(config.d_in),
                                             kMaxActiveShare * static_cast<double>(config.d_sae));
}

bool LengthIsSane(const SaeFit& fit) {
  return fit.norm_ratio >= kMinLength && fit.norm_ratio <= kMaxLength;
}

bool ClearlyBetter(const SaeFit& fit, const SaeFit& than) {
  return fit.explained_variance > 0 &&
         1 - fit.explained_variance < (1 - kClearly) * (1 - than.explained_variance);
}

class Checker {
 public:
  Checker(const CheckSaeRequest& request, DeviceWorker& worker)
      : request_(request),
        worker_(worker),
        sae_(*request.sae.sae),
        config_(sae_.config()),
        bound_{request.sae.hook, request.sae.output_hook()} {}

  absl::StatusOr<SaeCheck> Run() {
    RETURN_IF_ERROR(ReadBound());
    RETURN_IF_ERROR(OnDevice([this] { return Measure("", nullptr, &check_.as_bound); }));
    check_.n_tokens = static_cast<uint64_t>(x_.size(0));
    RETURN_IF_ERROR(TryChanges());
    RETURN_IF_ERROR(TryBos());
    // Other layers cost passes through the model: only where the SAE does not fit as it is.
    if (!IsFine(check_.as_bound)) RETURN_IF_ERROR(TryElsewhere());
    Conclude();
    return std::move(check_);
  }

 private:
  absl::Status OnDevice(const std::function<absl::Status()>& work) {
    return worker_.RunBackground(request_.cancel,
                                 [&work] { return TorchGate("checking an SAE", work); });
  }

  bool IsFine(const SaeFit& fit) const {
    return fit.explained_variance >= kGoodVariance && SparsityIsSane(fit, config_) &&
           LengthIsSane(fit);
  }

  // Runs one text and gives what `hooks` saw at non-special tokens, float32 [n, width].
  absl::Status Observe(const std::vector<uint32_t>& text, bool with_bos, bool center,
                       const std::vector<HookPoint>& hooks,
                       std::vector<torch::Tensor>* values) const {
    std::vector<uint32_t> ids;
    if (with_bos) ids.push_back(*request_.bos);
    ids.insert(ids.end(), text.begin(), text.end());
    std::vector<int64_t> ordinary;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (!IsSpecialToken(request_.model, ids[i])) ordinary.push_back(static_cast<int64_t>(i));
    }
    values->assign(hooks.size(), torch::Tensor());
    HookSet set;
    for (size_t i = 0; i < hooks.size(); ++i) {
      set.Add(hooks[i], [=](const HookContext& at, torch::Tensor& value) {
        const auto rows = torch::tensor(ordinary, torch::kInt64).to(value.device());
        (*values)[i] = HookRows(value.index_select(0, rows), at.hook, center);
      });
    }
    SequenceBatch batch;
    batch.Append(ids);
    ForwardOptions options;
    options.hooks = &set;
    options.cancel = request_.cancel;
    RETURN_IF_ERROR(request_.model.model->Forward(batch, options).status());
    for (size_t i = 0; i < hooks.size(); ++i) {
      if (!(*values)[i].defined()) return Internal("the pass did not reach ", hooks[i].name());
      (*values)[i] = (*values)[i].to(sae_.device());
    }
    return absl::OkStatus();
  }

  // All texts through the model, up to the bound hooks; keeps what is there.
  absl::Status ReadBound() {
    std::vector<torch::Tensor> xs;
    std::vector<torch::Tensor> ys;
    for (const std::vector<uint32_t>& text : request_.texts) {
      RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
        std::vector<torch::Tensor> seen;
        RETURN_IF_ERROR(Observe(text, request_.with_bos, request_.sae.center_writing_weights,
                                {bound_.hook, bound_.hook_out}, &seen));
        xs.push_back(seen[0]);
        ys.push_back(seen[1]);
        return absl::OkStatus();
      }));
    }
    return OnDevice([&]() -> absl::Status {
      x_ = torch::cat(xs);
      y_ = torch::cat(ys);
      if (x_.size(0) > 0) return absl::OkStatus();
      return InvalidArgument("the text has none but special tokens");
    });
  }

  absl::Status AddRows(const torch::Tensor& x, const torch::Tensor& y, const SaeReading* change,
                       FitSums* sums) const {
    constexpr int64_t kRows = 1024;
    for (int64_t begin = 0; begin < x.size(0); begin += kRows) {
      const int64_t n = std::min(kRows, x.size(0) - begin);
      const torch::Tensor rows = x.narrow(0, begin, n);
      ASSIGN_OR_RETURN(const EncodedRows encoded,
                       sae_.Encode(change != nullptr ? change->input(rows) : rows));
      torch::Tensor out = sae_.Decode(encoded);
      if (change != nullptr && change->output != nullptr) out = change->output(out, rows);
      sums->Add(y.narrow(0, begin, n), out, encoded.acts);
    }
    return absl::OkStatus();
  }

  absl::Status Measure(const std::string& words, const SaeReading* change, SaeFit* fit) const {
    FitSums sums;
    RETURN_IF_ERROR(AddRows(x_, y_, change, &sums));
    *fit = sums.Fit(words);
    return absl::OkStatus();
  }

  void Consider(SaeFit fit) {
    ++check_.n_tried;
    const SaeFit& now = check_.as_bound;
    // Much is explained by what is not sparse, whatever it means. And one that explains less may
    // still be right where the SAE as it is bound does so.
    if (!SparsityIsSane(fit, config_)) return;
    const bool repairs = now.explained_variance >= kGoodVariance && !IsFine(now) && IsFine(fit);
    if (repairs || ClearlyBetter(fit, now)) check_.better.push_back(std::move(fit));
  }

  absl::Status TryChanges();
  absl::Status TryCentring();
  absl::Status TryBos();
  absl::Status TryElsewhere();
  std::vector<Place> PlacesElsewhere() const;
  void Conclude();
  void ExplainLength(const SaeFit& fit);

  const CheckSaeRequest& request_;
  DeviceWorker& worker_;
  const Sae& sae_;
  const SaeConfig& config_;
  const Place bound_;
  torch::Tensor x_;  // float32 [n, d_in], at the bound hook
  torch::Tensor y_;  // float32 [n, d_out]
  SaeCheck check_;
};

absl::Status Checker::TryChanges() {
  std::vector<SaeReading> changes;
  RETURN_IF_ERROR(OnDevice([&] {
    changes = OtherReadings(sae_, x_);
    return absl::OkStatus();
  }));
  for (const SaeReading& change : changes) {
    RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
      SaeFit fit;
      RETURN_IF_ERROR(Measure(change.words, &change, &fit));
      Consider(std::move(fit));
      return absl::OkStatus();
    }));
  }
  return TryCentring();
}

// Of an SAE that reads uncentred activations, the centred ones come from those at hand; the other
// way needs the model again.
absl::Status Checker::TryCentring() {
  const bool matters =
      IsCentredByWriting(bound_.hook.kind) || IsCentredByWriting(bound_.hook_out.kind);
  if (!matters || !CheckCanCenterWriting(request_.model.model->config()).ok()) {
    return absl::OkStatus();
  }
  const bool centred = request_.sae.center_writing_weights;
  FitSums sums;
  for (const std::vector<uint32_t>& text : request_.texts) {
    RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
      std::vector<torch::Tensor> seen;
      RETURN_IF_ERROR(
          Observe(text, request_.with_bos, !centred, {bound_.hook, bound_.hook_out}, &seen));
      return AddRows(seen[0], seen[1], nullptr, &sums);
    }));
  }
  Consider(sums.Fit(centred ? "activations as the model has them: add it again with "
                              "--no-center-writing-weights"
                            : "activations less their mean, as a model with centred writing "
                              "weights gives them: add it again with --center-writing-weights"));
  return absl::OkStatus();
}

absl::Status Checker::TryBos() {
  if (!request_.bos.has_value()) return absl::OkStatus();
  const bool with_bos = !request_.with_bos;
  FitSums sums;
  for (const std::vector<uint32_t>& text : request_.texts) {
    RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
      std::vector<torch::Tensor> seen;
      RETURN_IF_ERROR(Observe(text, with_bos, request_.sae.center_writing_weights,
                              {bound_.hook, bound_.hook_out}, &seen));
      return AddRows(seen[0], seen[1], nullptr, &sums);
    }));
  }
  Consider(sums.Fit(with_bos
                        ? "a BOS token in front of each text, which the model's tokenizer does "
                          "not put there by itself: give texts with it"
                        : "no BOS token in front of the texts: give texts without it, e.g. "
                          "with --no-bos"));
  return absl::OkStatus();
}

std::vector<Place> Checker::PlacesElsewhere() const {
  const ModelConfig& model = request_.model.model->config();
  std::vector<Place> places;
  const auto add = [&](Place place) {
    const auto width = model.HookWidth(place.hook);
    const auto width_out = model.HookWidth(place.hook_out);
    if (!width.ok() || !width_out.ok() || *width != config_.d_in || *width_out != config_.d_out ||
        (place.hook == bound_.hook && place.hook_out == bound_.hook_out)) {
      return;
    }
    places.push_back(place);
  };
  if (IsInBlock(bound_.hook.kind)) {
    for (int layer = 0; layer < model.n_layers; ++layer) {
      Place place = bound_;
      place.hook.layer = layer;
      if (IsInBlock(place.hook_out.kind)) place.hook_out.layer = layer;
      add(place);
    }
  }
  if (!sae_.is_transcoder()) {
    for (const HookKind kind : {HookKind::kResidPre, HookKind::kResidMid, HookKind::kResidPost,
                                HookKind::kAttnOut, HookKind::kMlpOut, HookKind::kZ}) {
      const HookPoint hook = {kind, std::max(bound_.hook.layer, 0)};
      add({hook, hook});
    }
  }
  return places;
}

absl::Status Checker::TryElsewhere() {
  const std::vector<Place> places = PlacesElsewhere();
  if (places.empty()) return absl::OkStatus();
  std::vector<HookPoint> hooks;
  const auto index_of = [&hooks](const HookPoint& hook) {
    const auto at = std::find(hooks.begin(), hooks.end(), hook);
    if (at != hooks.end()) return static_cast<size_t>(at - hooks.begin());
    hooks.push_back(hook);
    return hooks.size() - 1;
  };
  std::vector<std::pair<size_t, size_t>> indices;
  for (const Place& place : places) {
    indices.emplace_back(index_of(place.hook), index_of(place.hook_out));
  }
  const double per_row = 2.0 * static_cast<double>(config_.d_in) *
                         static_cast<double>(config_.d_sae) * static_cast<double>(places.size());
  const double budget = sae_.device().is_cpu() ? kCpuBudget : kGpuBudget;
  const auto rows_wanted =
      std::max(kMinRowsElsewhere, static_cast<int64_t>(std::min(budget / per_row, 1e6)));
  std::vector<FitSums> sums(places.size());
  for (const std::vector<uint32_t>& text : request_.texts) {
    if (sums.front().n_tokens() >= rows_wanted) break;
    RETURN_IF_ERROR(OnDevice([&]() -> absl::Status {
      std::vector<torch::Tensor> seen;
      RETURN_IF_ERROR(
          Observe(text, request_.with_bos, request_.sae.center_writing_weights, hooks, &seen));
      for (size_t p = 0; p < places.size(); ++p) {
        RETURN_IF_ERROR(
            AddRows(seen[indices[p].first], seen[indices[p].second], nullptr, &sums[p]));
      }
      return absl::OkStatus();
    }));
  }
  for (size_t p = 0; p < places.size(); ++p) {
    const std::string hook_out =
        sae_.is_transcoder() ? absl::StrCat(" --hook-out ", places[p].hook_out.name()) : "";
    Consider(sums[p].Fit(absl::StrCat("another hook point: add it again with --hook ",
                                      places[p].hook.name(), hook_out)));
  }
  return absl::OkStatus();
}

// A reconstruction that points the right way, but is too long or too short.
void Checker::ExplainLength(const SaeFit& fit) {
  constexpr double kAligned = 0.7;
  if (LengthIsSane(fit)) return;
  check_.findings.push_back(absl::StrCat(
      "the output is ", Number(fit.norm_ratio), " times as long as what it should be",
      fit.cosine >= kAligned
          ? absl::StrCat(", but points the same way (cosine ", Number(fit.cosine),
                         "): a scale of the activations or of the decoder is missing or applied "
                         "twice")
          : ""));
}

void Checker::Conclude() {
  const SaeFit& fit = check_.as_bound;
  std::stable_sort(
      check_.better.begin(), check_.better.end(),
      [](const SaeFit& a, const SaeFit& b) { return a.explained_variance > b.explained_variance; });
  if (check_.better.size() > kMaxBetter) check_.better.resize(kMaxBetter);

  const bool sparse = SparsityIsSane(fit, config_);
  if (fit.explained_variance < kGoodVariance) {
    check_.findings.push_back(
        absl::StrCat("explained variance is ", Number(fit.explained_variance),
                     "; SAEs that are read as they were trained have at least ", kGoodVariance,
                     ", most 0.7 to 0.99"));
  }
  if (fit.l0 < 0.5) {
    check_.findings.push_back(
        absl::StrCat("only ", Number(fit.l0),
                     " features fire on a token: the activations are much smaller than "
                     "those it was trained on, or a threshold is too high"));
  } else if (!sparse) {
    check_.findings.push_back(absl::StrCat(
        Number(fit.l0), " of ", config_.d_sae, " features fire on a token, which is not sparse: a ",
        "threshold or a top-k may be missing (BatchTopK or JumpReLU weights read as plain ReLU), "
        "or "
        "the activations are much larger than those it was trained on"));
  }
  ExplainLength(fit);
  const bool bad = fit.explained_variance < kBadVariance || fit.l0 < 0.5;
  check_.verdict = check_.findings.empty() ? SaeVerdict::kFits
                   : bad                   ? SaeVerdict::kDoesNotFit
                                           : SaeVerdict::kDoubtful;
  if (!check_.better.empty()) {
    const SaeFit& best = check_.better.front();
    check_.findings.push_back(absl::StrCat(
        "likely cause: explained variance is ", Number(best.explained_variance), " at ",
        Number(best.l0), " features a token, in place of ", Number(fit.explained_variance), " at ",
        Number(fit.l0), ", with ", best.change));
    for (size_t i = 1; i < check_.better.size(); ++i) {
      const SaeFit& other = check_.better[i];
      if (1 - other.explained_variance > kAsGood * (1 - best.explained_variance)) break;
      check_.findings.push_back(absl::StrCat("fits about as well (",
                                             Number(other.explained_variance), " at ",
                                             Number(other.l0), " features): ", other.change));
    }
    if (check_.verdict == SaeVerdict::kFits) check_.verdict = SaeVerdict::kDoubtful;
  } else if (check_.verdict != SaeVerdict::kFits) {
    check_.findings.push_back(absl::StrCat(
        "none of ", check_.n_tried,
        " other bindings fits clearly better: the likely cause is another "
        "base model",
        request_.trained_on.empty()
            ? " than the one it was trained on"
            : absl::StrCat(" (the SAE says it was trained on ", request_.trained_on, ")"),
        ", or files of an unfinished training run"));
  }
}

absl::Status CheckRequest(const CheckSaeRequest& request) {
  const Transformer& model = *request.model.model;
  if (request.sae.output_unknown()) {
    return FailedPrecondition("SAE ", request.sae.id,
                              " is a transcoder of which it is not known what it writes");
  }
  RETURN_IF_ERROR(CheckSaeFits(request.sae, model));
  uint64_t n_tokens = 0;
  for (const std::vector<uint32_t>& text : request.texts) {
    n_tokens += text.size();
    if (text.empty() || static_cast<int64_t>(text.size()) + 1 > model.config().n_ctx) {
      return InvalidArgument("a text has ", text.size(), " tokens, it must be 1 to ",
                             model.config().n_ctx - 1);
    }
    for (const uint32_t id : text) {
      if (id >= model.config().d_vocab) {
        return InvalidArgument("token id ", id, " is out of range [0, ", model.config().d_vocab,
                               ")");
      }
    }
  }
  if (n_tokens < kMinCheckTokens) {
    return InvalidArgument("there are ", n_tokens, " tokens to look at, at least ", kMinCheckTokens,
                           " are needed");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SaeCheck> CheckSae(const CheckSaeRequest& request, DeviceWorker& worker) {
  RETURN_IF_ERROR(CheckRequest(request));
  return Checker(request, worker).Run();
}

}  // namespace featurescope
