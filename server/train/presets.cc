#include "server/train/presets.h"

#include <iterator>
#include <string>

#include "absl/strings/str_join.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

// A loop as notebooks write it: torch.nn.Linear layers, losses by mean(), no schedule, no clipping,
// activations as they are.
void Notebook(TrainingSpec& s) {
  s.architecture = "standard";
  s.reconstruction_scale = ReconstructionScale::kMean;
  s.sparsity_scale = SparsityScale::kMeanAll;
  s.l1_weighted_by_decoder_norm = false;
  s.l1_coefficient = 1e-3;
  s.l1_warmup_steps = 0;
  s.lr_warmup_steps = 0;
  s.lr_decay_steps = 0;
  s.learning_rate = 1e-3;
  s.clip_norm = 0;
  s.input_scaling = InputScaling::kNone;
  s.b_dec_init = DecoderBiasInit::kZeros;
  s.apply_b_dec_to_input = false;
  s.encoder_init = EncoderInit::kUniform;
  s.decoder_init = DecoderInit::kUniform;
  s.decoder_norm = DecoderNorm::kFree;
}

void Gpt2Notebook(TrainingSpec& s) {
  Notebook(s);
  s.d_sae = 4096;
  s.decoder_init_norm = 0.25;  // of torch.nn.Linear's columns: sqrt(d_in / (3 d_sae))
  s.optimizer = Optimizer::kAdamW;
  s.weight_decay = 0.01;
}

void PythiaNotebook(TrainingSpec& s) {
  Notebook(s);
  s.d_sae = 1024;
  s.decoder_init_norm = 0.41;  // as above, of 512 inputs
  s.batch_size = -1;
  s.positions = TokenPositions::kMiddle;
}

void Gpt2Tutorial(TrainingSpec& s) {
  Notebook(s);
  s.d_sae = 6144;
  s.epochs = 12;
  s.batch_size = 256;
  s.sparsity_scale = SparsityScale::kSumFeatures;
  s.reconstruction_scale = ReconstructionScale::kSum;
  s.decoder_norm = DecoderNorm::kUnit;
  s.project_decoder_gradient = false;
  s.decoder_init_norm = 1;
}

void Guide(TrainingSpec& s) {
  s.architecture = "standard";
  s.expansion = 16;
  s.lr_schedule = LrSchedule::kCosine;
  s.lr_warmup_fraction = 0.05;
}

// SAELens 6: trainers' defaults, gradient clipping as its trainer has it.
void SaeLens(TrainingSpec& s) {
  s.learning_rate = 3e-4;
  s.adam_beta1 = 0.9;
  s.adam_beta2 = 0.999;
  s.clip_norm = 1;
  s.lr_warmup_steps = 0;
  s.lr_decay_steps = 0;
  s.l1_warmup_steps = 0;
  s.b_dec_init = DecoderBiasInit::kZeros;
  s.decoder_norm = DecoderNorm::kFree;
  s.decoder_init = DecoderInit::kUniform;
  s.decoder_init_norm = 0.1;
  s.input_scaling = InputScaling::kNone;
}

void SaeLensStandard(TrainingSpec& s) {
  SaeLens(s);
  s.architecture = "standard";
  s.l1_coefficient = 1;
}

void SaeLensTopK(TrainingSpec& s) {
  SaeLens(s);
  s.architecture = "topk";
  s.k = 100;
  s.select_by_decoder_norm = true;
  s.auxk_coefficient = 1;
  s.k_aux = -1;
  s.auxk_scale = AuxKScale::kTokens;
  s.auxk_by_dead_share = true;
  s.auxk_relu = false;
}

void Arxiv250318878(TrainingSpec& s) {
  SaeLens(s);
  s.architecture = "standard";
  s.d_sae = 65536;
  s.tokens = 819'200'000;
  s.batch_size = 4096;
  s.learning_rate = 5e-5;
  s.lr_decay_fraction = 0.2;
  s.lr_decay_steps.reset();
  s.l1_coefficient = 5;
  s.l1_warmup_fraction = 0.05;
  s.l1_warmup_steps.reset();
  s.apply_b_dec_to_input = false;
  s.decoder_init = DecoderInit::kPositiveUniform;
  s.input_scaling = InputScaling::kSqrtWidth;
  s.dead_after_tokens = 4'096'000;  // dead_feature_window 1000
}

void GemmaScope(TrainingSpec& s) {
  s.architecture = "jumprelu";
  s.d_sae = 16384;
  s.tokens = 4'000'000'000;
  s.batch_size = 4096;
  s.learning_rate = 7e-5;
  s.adam_beta1 = 0;
  s.adam_beta2 = 0.999;
  s.lr_warmup_steps = 1000;
  s.lr_start_fraction = 0.1;
  s.lr_decay_steps = 0;
  s.clip_norm = 0;
  s.l1_warmup_steps = 10'000;
  s.target_l0 = 0;
  s.l0_coefficient = 6e-4;
  s.bandwidth = 0.001;
  s.initial_threshold = 0.001;
  s.input_scaling = InputScaling::kUnitMeanSquare;
  s.b_dec_init = DecoderBiasInit::kZeros;
  s.apply_b_dec_to_input = false;
  s.decoder_norm = DecoderNorm::kUnit;
  s.decoder_init = DecoderInit::kUniform;
}

// dictionary_learning: trainers' defaults, with the demo's normalisation of activations.
void DictionaryLearning(TrainingSpec& s) {
  s.batch_size = 2048;
  s.adam_beta1 = 0.9;
  s.adam_beta2 = 0.999;
  s.warmup_from_zero = true;
  s.lr_warmup_steps = 1000;
  s.lr_decay_fraction = 0.2;
  s.l1_warmup_steps = 2000;
  s.clip_norm = 1;
  s.decoder_norm = DecoderNorm::kUnit;
  s.decoder_init_norm = 1;
  s.input_scaling = InputScaling::kUnitMeanSquare;
  s.dead_after_tokens = 10'000'000;
}

void DictionaryLearningTopK(TrainingSpec& s) {
  DictionaryLearning(s);
  s.architecture = "topk";
  s.k = 80;
  s.b_dec_init = DecoderBiasInit::kGeometricMedian;
  s.decoder_init = DecoderInit::kUniform;
  s.auxk_coefficient = 1.0 / 32;
  s.k_aux = -1;
  s.threshold_beta = 0.999;
  s.threshold_start_step = 1000;
}

void DictionaryLearningBatchTopK(TrainingSpec& s) {
  DictionaryLearningTopK(s);
  s.architecture = "batchtopk";
}

void DictionaryLearningMatryoshka(TrainingSpec& s) {
  DictionaryLearningTopK(s);
  s.architecture = "matryoshka_batchtopk";
  // Groups by default 1/32, 1/16, 1/8, 1/4 and the rest; weights 1/5, and then the mean of five.
  s.group_weights.assign(5, 1.0 / 25);
}

void DictionaryLearningJumpRelu(TrainingSpec& s) {
  DictionaryLearning(s);
  s.architecture = "jumprelu";
  s.learning_rate = 7e-5;
  s.adam_beta1 = 0;
  s.l0_coefficient = 1;
  s.target_l0 = 20;
  s.bandwidth = 0.001;
  s.initial_threshold = 0.001;
  s.l0_step_input = L0StepInput::kActivation;
  s.clamp_threshold = false;
  s.b_dec_init = DecoderBiasInit::kZeros;
  s.apply_b_dec_to_input = false;
}

void DictionaryLearningGated(TrainingSpec& s) {
  DictionaryLearning(s);
  s.architecture = "gated";
  s.learning_rate = 5e-5;
  s.adam_beta1 = 0;
  s.clip_norm = 0;
  s.l1_coefficient = 0.1;
  s.l1_weighted_by_decoder_norm = false;
  s.b_dec_init = DecoderBiasInit::kZeros;
}

void DictionaryLearningStandard(TrainingSpec& s) {
  DictionaryLearning(s);
  s.architecture = "standard";
  s.learning_rate = 1e-3;
  s.clip_norm = 0;
  s.l1_coefficient = 0.1;
  s.l1_weighted_by_decoder_norm = false;
  s.decoder_init_norm = 0.1;  // until the first step
  s.b_dec_init = DecoderBiasInit::kZeros;
}

void AnthropicResampling(TrainingSpec& s) {
  s.architecture = "standard";
  s.decoder_norm = DecoderNorm::kUnit;
  s.l1_weighted_by_decoder_norm = false;
  s.batch_size = 8192;
  s.learning_rate = 1e-3;
  s.b_dec_init = DecoderBiasInit::kGeometricMedian;
  s.input_scaling = InputScaling::kNone;
  s.l1_coefficient = 0.008;
  s.l1_warmup_steps = 0;
  s.lr_warmup_steps = 0;
  s.lr_decay_steps = 0;
  s.clip_norm = 0;
  s.resample_tokens = 200'000'000;
  s.resample_dead_after_tokens = 100'000'000;
  s.resample_times = 4;
  s.resample_from_tokens = 819'200;
  s.resample_loss_power = 2;
  s.resample_encoder_scale = 0.2;
  s.resample_unit_inputs = true;
}

void OpenAiTopK(TrainingSpec& s) {
  s.architecture = "topk";
  s.d_sae = 32768;
  s.k = 32;
  s.batch_size = 131072;
  s.learning_rate = 1e-4;
  s.adam_epsilon = 6.25e-10;
  s.lr_warmup_steps = 0;
  s.lr_decay_steps = 0;
  s.clip_norm = 0;
  s.reconstruction_scale = ReconstructionScale::kVariance;
  s.input_scaling = InputScaling::kLayerNorm;
  s.b_dec_init = DecoderBiasInit::kGeometricMedian;
  s.decoder_norm = DecoderNorm::kUnitBeforeStep;
  s.auxk_coefficient = 1.0 / 32;
  s.k_aux = 256;
  s.dead_after_tokens = 10'000'000;
  s.fired_above = 1e-3;
}

void Sparsify(TrainingSpec& s) {
  s.architecture = "topk";
  s.expansion = 32;
  s.k = 32;
  s.reconstruction_scale = ReconstructionScale::kVariance;
  s.input_scaling = InputScaling::kNone;
  s.b_dec_init = DecoderBiasInit::kMean;
  s.encoder_init = EncoderInit::kUniform;
  s.decoder_norm = DecoderNorm::kUnit;
  s.auxk_coefficient = 0;
  s.clip_norm = 0;
  s.dead_after_tokens = 10'000'000;
}

constexpr Preset kPresets[] = {
    {"gpt2-mlp6-notebook", "A notebook's ReLU SAE of GPT-2's layer 6: 4096 features, AdamW",
     "the GPT-2 layer-6 MLP notebook", "gpt2", "blocks.6.hook_mlp_out",
     "tokens; batch_size: 4096; l1_coefficient: 1e-3", "biases begin at 0", Gpt2Notebook},
    {"pythia-70m-mlp5-notebook",
     "A notebook's ReLU SAE of Pythia-70m's layer 5: 1024 features, full batch, middle tokens",
     "the Pythia-70m layer-5 MLP notebook", "pythia-70m", "blocks.5.hook_mlp_out",
     "tokens or epochs; learning_rate: 1e-3; l1_coefficient: 1e-3",
     "biases begin at 0; a batch has at most 2^20 tokens", PythiaNotebook},
    {"gpt2-tutorial", "A tutorial's ReLU SAE of GPT-2: 6144 features, unit-norm decoder columns",
     "the GPT-2 tutorial", "gpt2", "", "learning_rate: 1e-3", "", Gpt2Tutorial},
    {"guide", "ReLU SAE with 16 features per input width, warm-up and cosine",
     "the guide's defaults", "", "", "tokens; learning_rate: 3e-4; l1_coefficient: 5", "", Guide},
    {"arxiv-2503.18878", "65,536 ReLU features of DeepSeek-R1-Distill-Llama-8B, L1 by decoder norm",
     "arXiv:2503.18878; AIRI-Institute/SAE-Reasoning, r1-distill-llama-8b.yaml (SAELens 5.5.2)",
     "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "blocks.19.hook_resid_post", "",
     "the scale of inputs is measured on the first block instead of 1000 batches", Arxiv250318878},
    {"gemma-scope", "JumpReLU as in Gemma Scope",
     "Lieberum et al. 2024, arXiv:2408.05147; Rajamanoharan et al. 2024, arXiv:2407.14435",
     "google/gemma-2-2b", "", "l0_coefficient: 6e-4",
     "thresholds are held as they are; the warm-up is linear, not a cosine", GemmaScope},
    {"dictionary_learning-topk", "TopK as dictionary_learning trains it",
     "saprmarks/dictionary_learning 60ec6bf, TopKTrainer; dictionary_learning_demo", "", "",
     "tokens; d_sae; k: 80", "", DictionaryLearningTopK},
    {"dictionary_learning-batchtopk", "BatchTopK as dictionary_learning trains it",
     "saprmarks/dictionary_learning 60ec6bf, BatchTopKTrainer; dictionary_learning_demo", "", "",
     "tokens; d_sae; k: 80", "", DictionaryLearningBatchTopK},
    {"dictionary_learning-matryoshka", "Matryoshka BatchTopK as dictionary_learning trains it",
     "saprmarks/dictionary_learning 60ec6bf, MatryoshkaBatchTopKTrainer", "", "",
     "tokens; d_sae, at least 32; k: 80", "", DictionaryLearningMatryoshka},
    {"dictionary_learning-jumprelu", "JumpReLU with a target L0 as dictionary_learning trains it",
     "saprmarks/dictionary_learning 60ec6bf, JumpReluTrainer", "", "",
     "tokens; d_sae; target_l0: 20", "", DictionaryLearningJumpRelu},
    {"dictionary_learning-gated", "Gated as dictionary_learning trains it",
     "saprmarks/dictionary_learning 60ec6bf, GatedSAETrainer", "", "",
     "tokens; d_sae; l1_coefficient: 0.1", "", DictionaryLearningGated},
    {"dictionary_learning-standard", "ReLU with unit-norm columns as dictionary_learning trains it",
     "saprmarks/dictionary_learning 60ec6bf, StandardTrainer", "", "",
     "tokens; d_sae; l1_coefficient: 0.1", "", DictionaryLearningStandard},
    {"saelens-standard", "ReLU with SAELens 6's defaults", "jbloomAus/SAELens 6.18.0", "", "",
     "tokens; d_sae; l1_coefficient: 1", "", SaeLensStandard},
    {"saelens-topk", "TopK with SAELens 6's defaults", "jbloomAus/SAELens 6.18.0", "", "",
     "tokens; d_sae; k: 100", "b_dec is not counted twice in AuxK", SaeLensTopK},
    {"anthropic-2023", "ReLU with resampling as in Towards Monosemanticity",
     "Bricken et al. 2023, transformer-circuits.pub/2023/monosemantic-features", "", "",
     "tokens; d_sae; l1_coefficient: 0.008; learning_rate: 1e-3",
     "inputs are drawn with the loss they had as they passed", AnthropicResampling},
    {"openai-topk", "TopK as in Scaling and Evaluating Sparse Autoencoders",
     "Gao et al. 2024, arXiv:2406.04093; openai/sparse_autoencoder 4965b94", "gpt2", "", "tokens",
     "the error is divided by each batch's variance, not by one measured before; the encoder "
     "begins "
     "as the decoder's transpose",
     OpenAiTopK},
    {"sparsify-topk", "TopK with sparsify's defaults", "EleutherAI/sparsify 9d3b136", "", "",
     "tokens; learning_rate: 2e-4 / sqrt(d_sae / 2^14)",
     "Adam instead of schedule-free signSGD; no multi-TopK", Sparsify},
};

}  // namespace

absl::Span<const Preset> AllPresets() { return kPresets; }

absl::StatusOr<TrainingSpec> PresetSpec(absl::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name != name) continue;
    TrainingSpec spec;
    preset.apply(spec);
    return spec;
  }
  return NotFound("no preset '", name, "'; there are: ",
                  absl::StrJoin(kPresets, ", ", [](std::string* out, const Preset& preset) {
                    out->append(preset.name.data(), preset.name.size());
                  }));
}

}  // namespace featurescope
