// Shared by the explore tests: a tiny golden model, SAEs with random weights, a tokenizer of single
// characters.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/explore/activations.h"
#include "server/explore/text_input.h"
#include "server/model/transformer.h"
#include "server/sae/sae.h"
#include "server/tensor/torch.h"
#include "server/text/tokenizer.h"

namespace featurescope {

// One token per byte below 131; token 0 is special: BOS, EOS, and what other bytes become.
class CharacterTokenizer : public Tokenizer {
 public:
  explicit CharacterTokenizer(bool adds_bos) {
    bos_id_ = 0;
    eos_id_ = 0;
    adds_bos_ = adds_bos;
  }
  std::string Decode(absl::Span<const uint32_t> ids) const override {
    std::string text;
    for (const uint32_t id : ids) text += TokenBytes(id);
    return text;
  }
  std::string TokenBytes(uint32_t id) const override {
    return id == 0 ? "<end>" : std::string(1, static_cast<char>(id));
  }
  uint32_t vocab_size() const override { return 131; }
  bool IsSpecial(uint32_t id) const override { return id == 0; }

 protected:
  absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view text, bool) const override {
    std::vector<uint32_t> ids;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      ids.push_back(byte < 131 ? byte : 0);
    }
    return ids;
  }
};

// tests/golden/lm/gpt2: 3 layers, d_model 48, 4 heads of 12, context 64, vocabulary 131.
inline std::shared_ptr<const Transformer> TinyTransformer() {
  static const auto model = [] {
    auto loaded =
        Transformer::Load(std::string(FEATURESCOPE_SOURCE_DIR) + "/tests/golden/lm/gpt2", {});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *loaded;
  }();
  return model;
}

inline ModelRef TinyModel(bool adds_bos = true) {
  return {TinyTransformer(), std::make_shared<CharacterTokenizer>(adds_bos)};
}

inline SaeConfig TinySaeConfig(const std::string& architecture) {
  SaeConfig config;
  config.architecture = architecture;
  config.d_in = 48;
  config.d_sae = 96;
  config.k = architecture == "topk" ? 8 : 0;
  return config;
}

inline std::shared_ptr<const Sae> RandomSae(const SaeConfig& config, uint64_t seed = 1) {
  torch::manual_seed(seed);
  SaeParameters parameters;
  parameters.W_dec = torch::randn({config.d_sae, config.d_in}) * 0.3;
  parameters.W_enc = parameters.W_dec.t().contiguous();
  parameters.b_enc = torch::randn({config.d_sae}) * 0.1;
  parameters.b_dec = torch::randn({config.d_in}) * 0.2;
  auto sae = Sae::Create(config, std::move(parameters));
  EXPECT_TRUE(sae.ok()) << sae.status();
  return *sae;
}

inline SaeRef RandomSaeRef(const std::string& architecture, const std::string& hook,
                           uint64_t seed = 1) {
  return {absl::StrCat(architecture, seed), RandomSae(TinySaeConfig(architecture), seed),
          *HookPoint::Parse(hook)};
}

inline TextInput Ids(std::vector<uint32_t> ids) {
  TextInput input;
  input.input = std::move(ids);
  return input;
}

inline TextInput Text(std::string text, bool no_bos = false) {
  TextInput input;
  input.input = std::move(text);
  input.no_bos = no_bos;
  return input;
}

// What one unbatched pass over `ids` has at `hook`, [pos, width].
inline torch::Tensor ValueAt(const Transformer& model, const std::vector<uint32_t>& ids,
                             const HookPoint& hook) {
  torch::Tensor seen;
  HookSet hooks;
  hooks.Add(hook,
            [&](const HookContext&, torch::Tensor& value) { seen = value.flatten(1).clone(); });
  SequenceBatch batch;
  batch.Append(ids);
  ForwardOptions options;
  options.hooks = &hooks;
  const auto logits = model.Forward(batch, options);
  EXPECT_TRUE(logits.ok()) << logits.status();
  return seen;
}

// Rows of `acts` as a dense [rows, n_cols].
inline torch::Tensor Dense(const SparseActivations& acts) {
  auto dense = torch::zeros({static_cast<int64_t>(acts.n_rows()), acts.n_cols});
  auto out = dense.accessor<float, 2>();
  for (size_t row = 0; row < acts.n_rows(); ++row) {
    for (uint32_t i = acts.row_offsets[row]; i < acts.row_offsets[row + 1]; ++i) {
      out[static_cast<int64_t>(row)][acts.indices[i]] = acts.values[i];
    }
  }
  return dense;
}

inline double MaxDifference(const torch::Tensor& a, const torch::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a - b).abs().max().item<double>();
}

}  // namespace featurescope
