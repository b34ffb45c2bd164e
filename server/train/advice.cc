#include "server/train/advice.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace featurescope {
namespace {

// Rules look at the last tenth of the points, and at no fewer than these.
constexpr size_t kFewestPoints = 3;

constexpr double kLowL0 = 10;
constexpr double kHighL0 = 200;
constexpr double kManyDead = 0.2;
constexpr double kManyDense = 0.05;
constexpr double kLowVariance = 0.8;
constexpr double kRisingLoss = 1.1;        // against the best tenth before
constexpr double kFrozenThreshold = 1e-3;  // relative change since warm-up
constexpr double kWorseOnHeldOut = 0.1;    // of explained variance

class Curves {
 public:
  Curves(absl::Span<const RunMetrics> points, const TrainingSpec& spec)
      : points_(points), window_(std::max(points.size() / 10, kFewestPoints)) {
    const int64_t warm =
        std::max({*spec.lr_warmup_steps, *spec.l1_warmup_steps, spec.k_anneal_steps});
    while (first_ < points_.size() && static_cast<int64_t>(points_[first_].step) <= warm) ++first_;
  }

  // Whether enough has been reported since everything was warm.
  bool ready() const { return points_.size() >= first_ + kFewestPoints; }

  // The mean of the last points that have the metric.
  std::optional<double> Last(const char* name) const {
    return Mean(name, points_.size() > window_ ? points_.size() - window_ : 0, points_.size());
  }
  // Of the first point since warm-up that has it.
  std::optional<double> First(const char* name) const {
    for (size_t i = first_; i < points_.size(); ++i) {
      const auto it = points_[i].values.find(name);
      if (it != points_[i].values.end()) return it->second;
    }
    return std::nullopt;
  }
  // The least mean of a window since warm-up.
  std::optional<double> Least(const char* name) const {
    std::optional<double> least;
    for (size_t end = first_ + window_; end <= points_.size(); end += window_) {
      const std::optional<double> mean = Mean(name, end - window_, end);
      if (mean && (!least || *mean < *least)) least = mean;
    }
    return least;
  }
  std::string When() const {
    const size_t begin = points_.size() > window_ ? points_.size() - window_ : 0;
    return absl::StrCat("mean of steps ", points_[begin].step, " to ", points_.back().step);
  }
  bool many() const { return points_.size() >= first_ + 3 * window_; }

 private:
  std::optional<double> Mean(const char* name, size_t begin, size_t end) const {
    double sum = 0;
    int n = 0;
    for (size_t i = std::max(begin, first_); i < end; ++i) {
      const auto it = points_[i].values.find(name);
      if (it == points_[i].values.end()) continue;
      sum += it->second;
      ++n;
    }
    return n == 0 ? std::nullopt : std::optional<double>(sum / n);
  }

  absl::Span<const RunMetrics> points_;
  size_t window_;
  size_t first_ = 0;  // since warm-up
};

// What makes fewer (or more) features fire.
std::string SparsityKnob(const TrainingSpec& spec, bool fewer) {
  const char* direction = fewer ? "lower" : "higher";
  const char* opposite = fewer ? "higher" : "lower";
  if (TraitsOf(spec).topk_family()) return absl::StrCat("a ", direction, " k");
  if (spec.sparsity_penalty == SparsityPenalty::kL0) {
    return *spec.target_l0 > 0 ? absl::StrCat("a ", direction,
                                              " target_l0, or a higher l0_coefficient so that the "
                                              "target counts more")
                               : absl::StrCat("a ", opposite, " l0_coefficient");
  }
  return absl::StrCat("a ", opposite, " l1_coefficient");
}

void AdviseOnSparsity(const Curves& curves, const TrainingSpec& spec, std::vector<Advice>* out) {
  const std::optional<double> l0 = curves.Last("l0");
  if (l0 && *l0 > kHighL0) {
    out->push_back({"l0_high",
                    absl::StrFormat("%.0f features fire per token (%s); above %.0f they are "
                                    "hardly interpretable",
                                    *l0, curves.When(), kHighL0),
                    absl::StrCat("try ", SparsityKnob(spec, true))});
  } else if (l0 && *l0 < kLowL0) {
    out->push_back({"l0_low",
                    absl::StrFormat("%.1f features fire per token (%s); below %.0f much of the "
                                    "activation is not described",
                                    *l0, curves.When(), kLowL0),
                    absl::StrCat("try ", SparsityKnob(spec, false))});
  }
  const std::optional<double> dense = curves.Last("dense_share");
  if (dense && *dense > kManyDense) {
    out->push_back(
        {"dense_features",
         absl::StrFormat("%.0f %% of the features fire on more than a tenth of the "
                         "tokens (%s)",
                         100 * *dense, curves.When()),
         absl::StrCat("try ", SparsityKnob(spec, true), ", or a larger d_sae at the same L0")});
  }
}

void AdviseOnDead(const Curves& curves, const TrainingSpec& spec, std::vector<Advice>* out) {
  const std::optional<double> dead = curves.Last("dead_share");
  if (!dead || *dead <= kManyDead) return;
  std::string suggestion = "try a smaller d_sae, a longer warm-up of the learning rate";
  if (TraitsOf(spec).topk_family()) {
    absl::StrAppend(&suggestion, *spec.auxk_coefficient == 0 ? ", or AuxK (auxk_coefficient 1/32)"
                                                             : ", or a higher auxk_coefficient");
  } else if (spec.resample_tokens == 0 && !TraitsOf(spec).transcoder) {
    absl::StrAppend(&suggestion, ", a longer l1_warmup_steps, or resampling (resample_tokens)");
  } else {
    absl::StrAppend(&suggestion, ", or a longer l1_warmup_steps");
  }
  out->push_back({"dead_features",
                  absl::StrFormat("%.0f %% of the features have not fired on the last %d tokens "
                                  "(%s)",
                                  100 * *dead, spec.dead_after_tokens, curves.When()),
                  suggestion});
}

void AdviseOnReconstruction(const Curves& curves, const TrainingSpec& spec,
                            std::vector<Advice>* out) {
  const std::optional<double> explained = curves.Last("explained_variance");
  if (explained && *explained < kLowVariance && curves.many()) {
    out->push_back(
        {"low_explained_variance",
         absl::StrFormat("%.0f %% of the variance is explained (%s)", 100 * *explained,
                         curves.When()),
         absl::StrCat("try more tokens, a larger d_sae, or ", SparsityKnob(spec, false))});
  }
  const std::optional<double> loss = curves.Last("loss");
  const std::optional<double> least = curves.Least("loss");
  if (loss && least && curves.many() && *least > 0 && *loss > kRisingLoss * *least) {
    out->push_back({"loss_rises",
                    absl::StrFormat("the loss is %.4g (%s) and has been %.4g before", *loss,
                                    curves.When(), *least),
                    "try a lower learning_rate, a longer warm-up, or clip_norm 1"});
  }
  const std::optional<double> held_out = curves.Last("heldout_explained_variance");
  if (explained && held_out && *explained - *held_out > kWorseOnHeldOut) {
    out->push_back({"overfits",
                    absl::StrFormat("held-out tokens are explained by %.0f %%, those trained on "
                                    "by %.0f %%",
                                    100 * *held_out, 100 * *explained),
                    "try more, or more varied, text: the corpus is too small for this many "
                    "features"});
  }
}

void AdviseOnThreshold(const Curves& curves, const TrainingSpec& spec, std::vector<Advice>* out) {
  if (TraitsOf(spec).family != ActivationFamily::kJumpRelu || !curves.many()) return;
  const std::optional<double> first = curves.First("threshold");
  const std::optional<double> last = curves.Last("threshold");
  if (!first || !last) return;
  const double size = std::max(std::abs(*first), 1e-12);
  if (std::abs(*last - *first) > kFrozenThreshold * size) return;
  out->push_back(
      {"threshold_frozen",
       absl::StrFormat("the mean threshold is %.4g since the warm-up (%s)", *last, curves.When()),
       "try a larger bandwidth, so that more units are near their threshold, or a "
       "higher threshold_learning_rate"});
}

}  // namespace

std::vector<Advice> AdviseOnTraining(absl::Span<const RunMetrics> points,
                                     const TrainingSpec& spec) {
  std::vector<Advice> advice;
  const Curves curves(points, spec);
  if (!curves.ready()) return advice;
  AdviseOnReconstruction(curves, spec, &advice);
  AdviseOnThreshold(curves, spec, &advice);
  AdviseOnDead(curves, spec, &advice);
  AdviseOnSparsity(curves, spec, &advice);
  return advice;
}

}  // namespace featurescope
