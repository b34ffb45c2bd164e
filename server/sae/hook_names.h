// Names of places in a model, as other projects write them, turned into TransformerLens' names.
//
// A name that does not say enough gives an empty string: then the user is asked, never guessed for.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace featurescope {

enum class ModelFamily {
  kUnknown,
  kGpt2,    // also NeoX and Pythia: LayerNorm before the MLP, whose output is added as it is
  kLlama,   // Llama, Mistral, Qwen, Gemma: RMSNorm, and the MLP's output is added as it is
  kGemma2,  // and later: a norm after the MLP as well
};
// By the name of a model, e.g. "EleutherAI/pythia-70m-deduped".
ModelFamily FamilyOfModel(absl::string_view model_name);

// Where an SAE reads and writes; for all but transcoders both are one.
struct HookNames {
  std::string in;
  std::string out;
};

// The output of a module of Hugging Face's models: "layers.3", "gpt_neox.layers.3.mlp", "h.5.attn",
// "transformer.h.5.mlp.act". For `transcoder`, the module's input and output.
HookNames ModuleHook(absl::string_view module, ModelFamily family, bool transcoder = false);

// dictionary_learning's names: "resid_post_layer_3", "mlp_out_layer3", "attention_out_layer_0".
std::string DictionaryLearningHook(absl::string_view submodule, ModelFamily family);

// What the directories of a published file tell of it; empty fields: nothing.
struct PathFacts {
  std::string as_given;  // the part of the path that tells
  std::string model_name;
  HookNames hook;
  bool transcoder = false;
  bool embedding = false;  // trained on embeddings before Gemma scales them
};
// .../gemma-scope-2b-pt-res/.../layer_12/width_16k/average_l0_82/params.npz
PathFacts GemmaScopePath(absl::string_view path);
// .../resid_post_mlp_v5_32k/autoencoders/8.pt
PathFacts OpenAiPath(absl::string_view path);

}  // namespace featurescope
