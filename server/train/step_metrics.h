// Means of step results between two reports.
#pragma once

#include <map>
#include <string>

#include "server/train/spec.h"
#include "server/train/step_result.h"

namespace featurescope {

class StepMetrics {
 public:
  bool empty() const { return n_ == 0; }
  void Add(const StepResult& result) {
    ++n_;
    sum_.loss += result.loss;
    sum_.mse += result.mse;
    sum_.total_variance += result.total_variance;
    sum_.l0 += result.l0;
    sum_.l1 += result.l1;
    sum_.sparsity_loss += result.sparsity_loss;
    sum_.gate_mse += result.gate_mse;
    sum_.auxk_loss += result.auxk_loss;
    sum_.dead_share += result.dead_share;
    sum_.dense_share += result.dense_share;
    sum_.cosine += result.cosine;
    sum_.dot += result.dot;
    sum_.squared_output += result.squared_output;
    sum_.grad_norm += result.grad_norm;
    sum_.threshold = result.threshold;
    sum_.explained_variance_legacy += result.explained_variance_legacy;
    sum_.k = result.k;
    sum_.resampled += result.resampled;
  }

  // The means of evaluations, with names that begin with heldout_; begins anew.
  //   REQUIRES: something was added.
  std::map<std::string, double> TakeHeldOut() {
    const double fvu = sum_.total_variance > 0 ? sum_.mse / sum_.total_variance : 0;
    std::map<std::string, double> means = {
        {"heldout_mse", sum_.mse / n_},
        {"heldout_fvu", fvu},
        {"heldout_explained_variance", 1 - fvu},
        {"heldout_explained_variance_legacy", sum_.explained_variance_legacy / n_},
        {"heldout_l0", sum_.l0 / n_},
        {"heldout_cosine", sum_.cosine / n_},
        {"heldout_reconstruction_bias", sum_.dot > 0 ? sum_.squared_output / sum_.dot : 0}};
    *this = StepMetrics();
    return means;
  }

  // The means by name; begins anew.   REQUIRES: something was added.
  std::map<std::string, double> Take(const TrainingSpec& spec) {
    const ArchitectureTraits traits = TraitsOf(spec);
    // The fraction of variance unexplained, of all these steps' tokens together.
    const double fvu = sum_.total_variance > 0 ? sum_.mse / sum_.total_variance : 0;
    std::map<std::string, double> means = {
        {"loss", sum_.loss / n_},
        {"mse", sum_.mse / n_},
        {"fvu", fvu},
        {"explained_variance", 1 - fvu},
        {"l0", sum_.l0 / n_},
        {"l1", sum_.l1 / n_},
        {"dead_share", sum_.dead_share / n_},
        {"dense_share", sum_.dense_share / n_},
        {"cosine", sum_.cosine / n_},
        {"reconstruction_bias", sum_.dot > 0 ? sum_.squared_output / sum_.dot : 0},
        {"grad_norm", sum_.grad_norm / n_}};
    if (traits.topk_family()) {
      means["auxk_loss"] = sum_.auxk_loss / n_;
      means["k"] = sum_.k;
    } else if (spec.sparsity_penalty == SparsityPenalty::kL0) {
      means["l0_loss"] = sum_.sparsity_loss / n_;
    } else {
      means["l1_loss"] = sum_.sparsity_loss / n_;
    }
    if (traits.family == ActivationFamily::kGated) means["gate_mse"] = sum_.gate_mse / n_;
    if (traits.batch_topk() || traits.family == ActivationFamily::kJumpRelu) {
      means["threshold"] = sum_.threshold;
    }
    if (spec.resample_tokens != 0) means["resampled"] = static_cast<double>(sum_.resampled);
    *this = StepMetrics();
    return means;
  }

 private:
  double n_ = 0;
  StepResult sum_;
};

}  // namespace featurescope
