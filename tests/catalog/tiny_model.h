// A tiny GPT-2 with random weights and a byte-level tokenizer, an SAE and text files: all that the
// tests of catalog/ and jobs/ need on disk.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/sae/sae.h"
#include "server/sae/sae_files.h"
#include "server/tensor/weights.h"

namespace featurescope {

constexpr int64_t kTinyWidth = 16;
constexpr int64_t kTinyVocab = 257;
constexpr int64_t kTinyContext = 32;

// The character that byte-level BPE writes for a byte, in UTF-8.
inline std::string ByteCharacter(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += !printable(b);
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))};
}

// <|endoftext|> is 0, byte b is b + 1.
inline std::string TinyTokenizerJson() {
  std::string vocab = "\"<|endoftext|>\": 0";
  for (int b = 0; b < 256; ++b) {
    std::string text = ByteCharacter(b);
    if (text == "\"" || text == "\\") text = "\\" + text;
    absl::StrAppend(&vocab, ", \"", text, "\": ", b + 1);
  }
  return absl::StrCat(
      R"({"version": "1.0", "added_tokens": [{"id": 0, "content": "<|endoftext|>", )"
      R"("single_word": false, "lstrip": false, "rstrip": false, "normalized": false, )"
      R"("special": true}], "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", )"
      R"("add_prefix_space": false, "trim_offsets": true, "use_regex": true}, )"
      R"("post_processor": null, "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", )"
      R"("vocab": {)",
      vocab, R"(}, "merges": []}})");
}

// Models of one seed are equal.
inline void WriteTinyModel(const std::string& dir, bool with_tokenizer, uint64_t seed = 1) {
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/config.json")
      << R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 16, )"
      << R"("n_head": 2, "n_layer": 2, "n_positions": 32, "vocab_size": 257, )"
      << R"("activation_function": "gelu_new", "layer_norm_epsilon": 1e-05, )"
      << R"("bos_token_id": 0, "eos_token_id": 0})";
  torch::manual_seed(seed);
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, double mean) {
    tensors.emplace_back("transformer." + name, torch::randn(shape) * 0.3 + mean);
  };
  const int64_t d = kTinyWidth;
  add("wte.weight", {kTinyVocab, d}, 0);
  add("wpe.weight", {kTinyContext, d}, 0);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string h = absl::StrCat("h.", layer, ".");
    add(h + "ln_1.weight", {d}, 1), add(h + "ln_1.bias", {d}, 0);
    add(h + "attn.c_attn.weight", {d, 3 * d}, 0), add(h + "attn.c_attn.bias", {3 * d}, 0);
    add(h + "attn.c_proj.weight", {d, d}, 0), add(h + "attn.c_proj.bias", {d}, 0);
    add(h + "ln_2.weight", {d}, 1), add(h + "ln_2.bias", {d}, 0);
    add(h + "mlp.c_fc.weight", {d, 4 * d}, 0), add(h + "mlp.c_fc.bias", {4 * d}, 0);
    add(h + "mlp.c_proj.weight", {4 * d, d}, 0), add(h + "mlp.c_proj.bias", {d}, 0);
  }
  add("ln_f.weight", {d}, 1), add("ln_f.bias", {d}, 0);
  ASSERT_TRUE(SaveTensors(dir + "/model.safetensors", tensors).ok());
  if (with_tokenizer) {
    std::ofstream(dir + "/tokenizer.json") << TinyTokenizerJson();
    std::ofstream(dir + "/tokenizer_config.json")
        << R"({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", )"
        << R"("tokenizer_class": "GPT2Tokenizer"})";
  }
}

inline void WriteTinySae(const std::string& dir, int64_t d_in, const std::string& hook,
                         uint64_t seed = 3) {
  constexpr int64_t kFeatures = 32;
  std::filesystem::create_directories(dir);
  torch::manual_seed(seed);
  SaeConfig config;
  config.architecture = "topk";
  config.d_in = d_in;
  config.d_sae = kFeatures;
  config.k = 4;
  config.hook_name = hook;
  SaeParameters p;
  p.W_enc = torch::randn({d_in, kFeatures}) / 4;
  p.W_dec = torch::randn({kFeatures, d_in}) / 4;
  p.b_enc = torch::zeros({kFeatures});
  p.b_dec = torch::zeros({d_in});
  const auto sae = Sae::Create(config, p);
  ASSERT_TRUE(sae.ok()) << sae.status();
  const absl::Status saved = SaveSae(**sae, dir);
  ASSERT_TRUE(saved.ok()) << saved;
}

// Some kilobytes of different sentences, one document a line.
inline void WriteTinyText(const std::string& path, int documents) {
  std::ofstream out(path);
  for (int i = 0; i < documents; ++i) {
    out << R"({"text": "Sentence )" << i << " says that " << i * i % 97 << " is not " << i * 7 % 31
        << R"(, and goes on."})"
        << "\n";
  }
}

}  // namespace featurescope
