// SAEs from and to disk, in every format of the field.
//
// The format is recognised from the content. What a file cannot say (or says wrongly) is an option;
// what was recognised, folded and guessed is in Sae::recognition().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/sae/sae.h"

namespace featurescope {

// How features of a TopK or BatchTopK file are selected.
enum class SaeSelection {
  // TopK: per token. BatchTopK: by the threshold; but a SAELens training checkpoint over the whole
  // batch, as SAELens itself runs one.
  kAsStored,
  kPerToken,    // the k largest of each token
  kThreshold,   // what exceeds the threshold that training tracked
  kWholeBatch,  // the k n largest of n tokens: activations depend on what is encoded together
};

absl::string_view SaeSelectionName(SaeSelection selection);  // "as_stored", "per_token", ...
std::optional<SaeSelection> FindSaeSelection(absl::string_view name);

// Settings that take the place of what the files say; unset: as they say, or as the format defines.
struct LoadSaeOptions {
  std::optional<bool> apply_b_dec_to_input;
  std::optional<NormalizeActivations> normalize_activations;
  std::optional<bool> rescale_acts_by_decoder_norm;
  // Inputs are to be multiplied by this before the encoder and outputs divided by it: a training
  // run's scale that is not yet folded into the weights (SAELens' norm_scaling_factor). > 0.
  std::optional<double> norm_scaling_factor;
  SaeSelection selection = SaeSelection::kAsStored;
  std::optional<double> threshold;  // of a BatchTopK file that tracked none; > 0
  std::optional<int64_t> k;         // of a TopK file that does not say
};

// Loads an SAE. `path` is a directory, or a file (autoencoder.pt, params.npz, cfg.json, ...):
//
//   SAELens 3 to 6       cfg.json, sae_weights.safetensors; also training checkpoints
//   Gemma Scope          params.npz
//   dictionary_learning  ae.pt, config.json; also its backups
//   OpenAI               .pt with pre_bias, latent_bias
//   sparsify             cfg.json, sae.safetensors
//   Llama Scope          hyperparams.json, checkpoints/final.safetensors
//   OpenMOSS             config.json, sae_weights.safetensors
//   state_dict           .pt of a notebook: enc.weight, enc.bias, dec.weight; or W_enc [d_sae,
//   d_in]
//
//   errors  NotFound         a file is missing; the message names it
//           InvalidArgument  no format fits, or a file is malformed; the message names file and
//                            field or tensor
//           Unimplemented    an architecture or setting that is not supported, by name
absl::StatusOr<std::shared_ptr<const Sae>> LoadSae(absl::string_view path, torch::Device device,
                                                   const LoadSaeOptions& options = {});

// The files that LoadSae would open, without reading weights; the first has the weights. For
// callers that must know where a path leads before they follow it.
struct SaeFileSet {
  std::string format;
  std::vector<std::string> files;
};
absl::StatusOr<SaeFileSet> FindSaeFiles(absl::string_view path);

// Writes cfg.json and sae_weights.safetensors as SAELens 6 lays them out. LoadSae gives the same
// bits again, for every SAE. The directory must exist; files are replaced atomically, cfg.json
// last. SAELens reads it where the architecture is one of its own (SaeArchitecture::saelens).
absl::Status SaveSae(const Sae& sae, absl::string_view directory);

// As SaveSae, but for SAELens to read: a BatchTopK SAE becomes the JumpReLU SAE that SAELens itself
// exports it as, and what SAELens computes only with folded weights is folded.
//
//   errors  Unimplemented  SAELens 6 cannot express this SAE; the message says why
absl::Status ExportToSaeLens(const Sae& sae, absl::string_view directory);

// Writes ae.pt and config.json as dictionary_learning does. LoadSae gives the same bits again.
//
//   errors  Unimplemented  dictionary_learning has no class for this SAE; the message says why
absl::Status ExportToDictionaryLearning(const Sae& sae, absl::string_view directory);

}  // namespace featurescope
