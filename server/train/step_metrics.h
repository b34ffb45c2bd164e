// Means of step results between two reports.
#pragma once

#include <map>
#include <string>

#include "server/train/sae_trainer.h"
#include "server/train/spec.h"

namespace featurescope {

class StepMetrics {
 public:
  void Add(const StepResult& result) {
    ++n_;
    sum_.loss += result.loss;
    sum_.mse += result.mse;
    sum_.total_variance += result.total_variance;
    sum_.l0 += result.l0;
    sum_.l1_loss += result.l1_loss;
    sum_.auxk_loss += result.auxk_loss;
    sum_.dead_share += result.dead_share;
    sum_.grad_norm += result.grad_norm;
  }

  // The means by name; begins anew.   REQUIRES: something was added.
  std::map<std::string, double> Take(const TrainingSpec& spec) {
    // The fraction of variance unexplained, of all these steps' tokens together.
    const double fvu = sum_.total_variance > 0 ? sum_.mse / sum_.total_variance : 0;
    std::map<std::string, double> means = {{"loss", sum_.loss / n_},
                                           {"mse", sum_.mse / n_},
                                           {"fvu", fvu},
                                           {"explained_variance", 1 - fvu},
                                           {"l0", sum_.l0 / n_},
                                           {"dead_share", sum_.dead_share / n_},
                                           {"grad_norm", sum_.grad_norm / n_}};
    if (spec.architecture == "topk") {
      means["auxk_loss"] = sum_.auxk_loss / n_;
    } else {
      means["l1_loss"] = sum_.l1_loss / n_;
    }
    *this = StepMetrics();
    return means;
  }

 private:
  double n_ = 0;
  StepResult sum_;
};

}  // namespace featurescope
