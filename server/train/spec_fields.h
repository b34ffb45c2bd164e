// Every field of a TrainingSpec, listed once: for fingerprints, and for whoever writes or compares
// specs.
#pragma once

#include "server/train/spec.h"

namespace featurescope {

// Calls visit(name, field) for each field in a fixed order. `Spec` is TrainingSpec or const
// TrainingSpec; fields are strings, numbers, bools, optionals of them, enums of spec_enums.h and
// vectors of numbers.
template <typename Spec, typename Visitor>
void VisitTrainingSpec(Spec& s, Visitor&& visit) {
  visit("architecture", s.architecture);
  visit("d_sae", s.d_sae);
  visit("expansion", s.expansion);
  visit("k", s.k);
  visit("tokens", s.tokens);
  visit("epochs", s.epochs);
  visit("batch_size", s.batch_size);
  visit("seed", s.seed);
  visit("learning_rate", s.learning_rate);
  visit("lr_warmup_steps", s.lr_warmup_steps);
  visit("lr_decay_steps", s.lr_decay_steps);
  visit("lr_warmup_fraction", s.lr_warmup_fraction);
  visit("lr_decay_fraction", s.lr_decay_fraction);
  visit("l1_warmup_fraction", s.l1_warmup_fraction);
  visit("lr_start_fraction", s.lr_start_fraction);
  visit("adam_beta1", s.adam_beta1);
  visit("adam_beta2", s.adam_beta2);
  visit("adam_epsilon", s.adam_epsilon);
  visit("clip_norm", s.clip_norm);
  visit("optimizer", s.optimizer);
  visit("weight_decay", s.weight_decay);
  visit("lr_schedule", s.lr_schedule);
  visit("lr_end_fraction", s.lr_end_fraction);
  visit("warmup_from_zero", s.warmup_from_zero);
  visit("compute_dtype", s.compute_dtype);
  visit("reconstruction_scale", s.reconstruction_scale);
  visit("sparsity_penalty", s.sparsity_penalty);
  visit("sparsity_scale", s.sparsity_scale);
  visit("l1_coefficient", s.l1_coefficient);
  visit("l1_warmup_steps", s.l1_warmup_steps);
  visit("l1_weighted_by_decoder_norm", s.l1_weighted_by_decoder_norm);
  visit("tanh_scale", s.tanh_scale);
  visit("b_dec_init", s.b_dec_init);
  visit("apply_b_dec_to_input", s.apply_b_dec_to_input);
  visit("decoder_norm", s.decoder_norm);
  visit("project_decoder_gradient", s.project_decoder_gradient);
  visit("decoder_init", s.decoder_init);
  visit("decoder_init_norm", s.decoder_init_norm);
  visit("encoder_init", s.encoder_init);
  visit("center_encoder", s.center_encoder);
  visit("scale_inputs", s.scale_inputs);
  visit("input_scaling", s.input_scaling);
  visit("select_by_decoder_norm", s.select_by_decoder_norm);
  visit("k_anneal_steps", s.k_anneal_steps);
  visit("k_initial", s.k_initial);
  visit("k_anneal_shape", s.k_anneal_shape);
  visit("k_anneal_from_second_step", s.k_anneal_from_second_step);
  visit("auxk_coefficient", s.auxk_coefficient);
  visit("k_aux", s.k_aux);
  visit("auxk_scale", s.auxk_scale);
  visit("auxk_by_dead_share", s.auxk_by_dead_share);
  visit("auxk_relu", s.auxk_relu);
  visit("threshold_beta", s.threshold_beta);
  visit("threshold_start_step", s.threshold_start_step);
  visit("threshold_from_zero", s.threshold_from_zero);
  visit("group_sizes", s.group_sizes);
  visit("group_weights", s.group_weights);
  visit("l0_coefficient", s.l0_coefficient);
  visit("target_l0", s.target_l0);
  visit("bandwidth", s.bandwidth);
  visit("initial_threshold", s.initial_threshold);
  visit("threshold_learning_rate", s.threshold_learning_rate);
  visit("ste_kernel", s.ste_kernel);
  visit("l0_step_input", s.l0_step_input);
  visit("clamp_threshold", s.clamp_threshold);
  visit("pre_act_coefficient", s.pre_act_coefficient);
  visit("gated_detach_decoder", s.gated_detach_decoder);
  visit("dead_after_tokens", s.dead_after_tokens);
  visit("fired_above", s.fired_above);
  visit("resample_tokens", s.resample_tokens);
  visit("resample_dead_after_tokens", s.resample_dead_after_tokens);
  visit("resample_times", s.resample_times);
  visit("resample_from_tokens", s.resample_from_tokens);
  visit("resample_loss_power", s.resample_loss_power);
  visit("resample_encoder_scale", s.resample_encoder_scale);
  visit("resample_unit_inputs", s.resample_unit_inputs);
  visit("exclude_special_tokens", s.exclude_special_tokens);
  visit("positions", s.positions);
  visit("buffer_tokens", s.buffer_tokens);
  visit("checkpoint_seconds", s.checkpoint_seconds);
  visit("checkpoint_steps", s.checkpoint_steps);
  visit("heldout_tokens", s.heldout_tokens);
  visit("heldout_steps", s.heldout_steps);
}

// One line that holds every field exactly, but when checkpoints are written and what is measured on
// held-out tokens: two runs of equal lines compute the same.
std::string DescribeComputation(const TrainingSpec& spec);

}  // namespace featurescope
