// The training step as a user of LibTorch would write it: dense, by autograd, with LibTorch's
// optimisers. What the sparse step is compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/tensor/torch.h"
#include "server/train/schedule.h"
#include "server/train/spec.h"
#include "server/train/train_state.h"

namespace featurescope {

class AutogradTrainer {
 public:
  AutogradTrainer(const TrainingSpec& spec, const TrainState& state)
      : spec_(spec), traits_(TraitsOf(spec)), since_fired_(state.tokens_since_fired.clone()) {
    VisitParameters(state, [&](const char* name, const Trained& parameter) {
      if (!parameter.value.defined()) return;
      values[name] = parameter.value.clone().requires_grad_();
      m_[name] = torch::zeros_like(parameter.value);
      v_[name] = torch::zeros_like(parameter.value);
    });
  }

  // Returns the loss.
  double Step(const torch::Tensor& x, const torch::Tensor& y, const StepSettings& settings) {
    torch::AutoGradMode grad(true);
    for (auto& [name, value] : values) value.mutable_grad() = torch::Tensor();
    settings_ = settings;
    const torch::Tensor loss = Loss(x, y);
    loss.backward();
    torch::NoGradGuard no_grad;
    Update();
    return loss.item<double>();
  }

  int64_t n_dead() const { return Dead().sum().item<int64_t>(); }

  std::map<std::string, torch::Tensor> values;     // in our layout
  std::map<std::string, torch::Tensor> gradients;  // projected, before clipping

 private:
  torch::Tensor P(const char* name) const { return values.at(name); }
  torch::Tensor Norms() const { return P("W_dec").norm(2, {1}); }
  torch::Tensor Dead() const {
    return since_fired_.ge(static_cast<int64_t>(spec_.dead_after_tokens));
  }

  torch::Tensor Loss(const torch::Tensor& x, const torch::Tensor& y) {
    const bool apply = *spec_.apply_b_dec_to_input;
    const torch::Tensor u = torch::mm(apply ? x - P("b_dec") : x, P("W_enc").t());
    torch::Tensor skip = torch::zeros_like(y);
    if (traits_.skip) skip = torch::mm(x, P("W_skip").t());
    torch::Tensor loss;
    torch::Tensor acts;
    switch (traits_.family) {
      case ActivationFamily::kRelu:
        acts = (u + P("b_enc")).relu();
        loss = Errors(acts, y - skip) + Penalty(acts);
        break;
      case ActivationFamily::kGated: {
        const torch::Tensor gate = u + P("b_gate");
        acts = (u * P("r_mag").exp() + P("b_mag")).relu() * gate.gt(0);
        loss = Errors(acts, y - skip) + GateErrors(gate.relu(), y) + Penalty(gate.relu());
        break;
      }
      case ActivationFamily::kJumpRelu:
        return JumpReluLoss(u + P("b_enc"), y - skip);
      default:
        acts = Select(u + P("b_enc"));
        loss = Errors(acts, y - skip);
    }
    CountFired(acts);
    if (traits_.topk_family()) {
      const torch::Tensor y_hat = torch::mm(acts, P("W_dec")) + P("b_dec") + skip;
      loss = loss + *spec_.auxk_coefficient * AuxK(u + P("b_enc"), y, (y - y_hat).detach());
    }
    return loss;
  }

  double Scale(const torch::Tensor& y) const {
    const auto n = static_cast<double>(y.size(0));
    switch (spec_.reconstruction_scale) {
      case ReconstructionScale::kMean:
        return 1 / (n * static_cast<double>(y.size(1)));
      case ReconstructionScale::kVariance:
        return 1 / (y - y.mean(0)).pow(2).sum().item<double>();
      default:
        return 1 / n;
    }
  }

  // The errors of the nested prefixes, or of everything.
  torch::Tensor Errors(const torch::Tensor& acts, const torch::Tensor& y) const {
    const double scale = Scale(y);
    if (spec_.group_sizes.empty()) {
      return (torch::mm(acts, P("W_dec")) + P("b_dec") - y).pow(2).sum() * scale;
    }
    torch::Tensor sum = torch::zeros({});
    int64_t end = 0;
    for (size_t i = 0; i < spec_.group_sizes.size(); ++i) {
      end += spec_.group_sizes[i];
      const torch::Tensor y_hat =
          torch::mm(acts.slice(1, 0, end), P("W_dec").slice(0, 0, end)) + P("b_dec");
      sum = sum + (y_hat - y).pow(2).sum() * (scale * spec_.group_weights[i]);
    }
    return sum;
  }
  torch::Tensor GateErrors(const torch::Tensor& acts, const torch::Tensor& y) const {
    const bool detach = spec_.gated_detach_decoder;
    const torch::Tensor W = detach ? P("W_dec").detach() : P("W_dec");
    const torch::Tensor b = detach ? P("b_dec").detach() : P("b_dec");
    return (torch::mm(acts, W) + b - y).pow(2).sum() * Scale(y);
  }

  torch::Tensor Penalty(const torch::Tensor& acts) const {
    if (spec_.sparsity_penalty != SparsityPenalty::kL1 &&
        spec_.sparsity_penalty != SparsityPenalty::kTanh) {
      return torch::zeros({});
    }
    torch::Tensor value = *spec_.l1_weighted_by_decoder_norm ? acts * Norms() : acts;
    if (spec_.sparsity_penalty == SparsityPenalty::kTanh) {
      value = (value * spec_.tanh_scale).tanh();
    }
    const double c = spec_.l1_coefficient * settings_.sparsity;
    switch (spec_.sparsity_scale) {
      case SparsityScale::kMeanAll:
        return c * value.mean();
      case SparsityScale::kSumAll:
        return c * value.sum();
      default:
        return c * value.sum(1).mean();
    }
  }

  torch::Tensor Kernel(const torch::Tensor& u) const {
    const torch::Tensor inside = u.abs().lt(0.5);
    switch (spec_.ste_kernel) {
      case SteKernel::kTriangle:
        return (2 - 4 * u.abs()) * inside;
      case SteKernel::kEpanechnikov:
        return 1.5 * (1 - 4 * u * u) * inside;
      default:
        return inside.to(torch::kFloat32);
    }
  }

  torch::Tensor JumpReluLoss(const torch::Tensor& z, const torch::Tensor& y) {
    const torch::Tensor theta = P("threshold");
    const double eps = spec_.bandwidth;
    const auto with_gradient = [&](const torch::Tensor& value, const torch::Tensor& slope) {
      return value + (theta - theta.detach()) * slope.detach();
    };
    const torch::Tensor fires = z.gt(theta);
    const torch::Tensor near = Kernel((z - theta).detach() / eps);
    const torch::Tensor acts = with_gradient(z * fires, -(theta / eps) * near);
    CountFired(acts);
    torch::Tensor loss = Errors(acts, y) + Penalty(acts);
    if (spec_.sparsity_penalty == SparsityPenalty::kL0) {
      const bool of_acts = spec_.l0_step_input == L0StepInput::kActivation;
      const torch::Tensor in = of_acts ? (z * fires).detach() : z.detach();
      const torch::Tensor step =
          with_gradient(in.gt(theta).to(torch::kFloat32), -Kernel((in - theta) / eps) / eps);
      const torch::Tensor l0 = step.sum(1).mean();
      const double target = *spec_.target_l0;
      loss = loss + spec_.l0_coefficient * settings_.sparsity *
                        (target > 0 ? (l0 / target - 1).pow(2) : l0);
    }
    if (spec_.pre_act_coefficient > 0) {
      const torch::Tensor below = (theta - z).relu() * Norms() * Dead();
      loss = loss + spec_.pre_act_coefficient * below.sum(1).mean();
    }
    return loss;
  }

  static torch::Tensor KeepTopK(const torch::Tensor& values, int64_t k) {
    const auto [best, index] = values.topk(k, 1);
    return torch::zeros_like(values).scatter(1, index, torch::ones_like(best));
  }
  torch::Tensor Scores(const torch::Tensor& z) const {
    return spec_.select_by_decoder_norm ? z * Norms().detach() : z;
  }
  torch::Tensor Select(const torch::Tensor& z) const {
    const torch::Tensor scores = Scores(z).relu();
    if (traits_.family == ActivationFamily::kTopK) {
      return z.relu() * KeepTopK(scores, settings_.k);
    }
    const torch::Tensor flat = scores.reshape({1, -1});
    const torch::Tensor kept = KeepTopK(flat, std::min(settings_.k * z.size(0), flat.numel()));
    return z.relu() * kept.view_as(z);
  }

  void CountFired(const torch::Tensor& acts) {
    since_fired_ += acts.size(0);
    since_fired_.masked_fill_(acts.gt(spec_.fired_above).any(0), 0);
  }

  torch::Tensor AuxK(const torch::Tensor& z, const torch::Tensor& y, const torch::Tensor& e) const {
    const torch::Tensor dead = Dead().nonzero().view({-1});
    if (dead.numel() == 0) return torch::zeros({});
    const torch::Tensor of_dead = z.index_select(1, dead);
    const int64_t k = std::min(spec_.k_aux, dead.numel());
    torch::Tensor acts = of_dead * KeepTopK(Scores(z).index_select(1, dead), k);
    if (spec_.auxk_relu) acts = acts.relu();
    const torch::Tensor error =
        (e - torch::mm(acts, P("W_dec").index_select(0, dead))).pow(2).sum();
    double scale = static_cast<double>(y.size(0));
    switch (spec_.auxk_scale) {
      case AuxKScale::kResidualVariance:
        scale = (e - e.mean(0)).pow(2).sum().item<double>();
        break;
      case AuxKScale::kTotalVariance:
        scale = (y - y.mean(0)).pow(2).sum().item<double>();
        break;
      case AuxKScale::kTokensAndWidth:
        scale *= static_cast<double>(y.size(1));
        break;
      case AuxKScale::kTokens:
        break;
    }
    const double share = static_cast<double>(dead.numel()) / static_cast<double>(spec_.k_aux);
    return error * ((spec_.auxk_by_dead_share ? std::min(share, 1.0) : 1.0) / scale);
  }

  void Update() {
    ++t_;
    torch::Tensor& W_dec = values.at("W_dec");
    if (*spec_.project_decoder_gradient) {
      const torch::Tensor direction = W_dec / W_dec.norm(2, {1}, true);
      W_dec.mutable_grad().sub_((W_dec.grad() * direction).sum(1, true) * direction);
    }
    double squares = 0;
    for (auto& [name, value] : values) {
      if (!value.grad().defined()) value.mutable_grad() = torch::zeros_like(value);
      gradients[name] = value.grad().clone();
      squares += value.grad().pow(2).sum().item<double>();
    }
    const double clip = *spec_.clip_norm;
    const double factor = clip > 0 ? std::min(1.0, clip / (std::sqrt(squares) + 1e-6)) : 1.0;
    if (spec_.decoder_norm == DecoderNorm::kUnitBeforeStep) W_dec.div_(W_dec.norm(2, {1}, true));
    for (auto& [name, value] : values) {
      const double rate =
          name == "threshold" ? settings_.threshold_learning_rate : settings_.learning_rate;
      UpdateOne(name, value, value.grad() * factor, rate);
    }
    if (spec_.decoder_norm == DecoderNorm::kUnit) W_dec.div_(W_dec.norm(2, {1}, true));
    if (values.count("threshold") > 0 && spec_.clamp_threshold) {
      values.at("threshold").clamp_min_(0);
    }
  }

  void UpdateOne(const std::string& name, torch::Tensor& value, const torch::Tensor& g,
                 double rate) {
    const double beta1 = spec_.adam_beta1;
    const double beta2 = spec_.adam_beta2;
    value.mul_(1 - settings_.learning_rate * *spec_.weight_decay);
    m_[name] = beta1 * m_[name] + (1 - beta1) * g;
    if (spec_.optimizer == Optimizer::kSignum) {
      value.sub_(rate * m_[name].sign());
      return;
    }
    v_[name] = beta2 * v_[name] + (1 - beta2) * g * g;
    const torch::Tensor m_hat = m_[name] / (1 - std::pow(beta1, t_));
    const torch::Tensor v_hat = v_[name] / (1 - std::pow(beta2, t_));
    value.sub_(rate * m_hat / (v_hat.sqrt() + spec_.adam_epsilon));
  }

  const TrainingSpec spec_;
  const ArchitectureTraits traits_;
  StepSettings settings_;
  torch::Tensor since_fired_;
  std::map<std::string, torch::Tensor> m_;
  std::map<std::string, torch::Tensor> v_;
  int t_ = 0;
};

}  // namespace featurescope
