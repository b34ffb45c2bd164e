// A decoder-only language model with hook points. Immutable after loading; const is thread-safe.
//
// Sequences are packed one after another without padding: everything but attention runs on
// [tokens, ...], so a batch of any lengths costs what its tokens cost.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/base/cancel.h"
#include "server/model/config.h"
#include "server/model/hooks.h"
#include "server/model/kv_cache.h"
#include "server/tensor/torch.h"

namespace featurescope {

// Sequences packed one after another.
struct SequenceBatch {
  std::vector<int64_t> tokens;
  std::vector<int64_t> offsets = {0};  // sequence i is tokens offsets[i] to offsets[i + 1]
  // Empty, or one per sequence: the tokens continue what the cache holds, and are added to it.
  std::vector<KvCache*> caches;

  int64_t n_sequences() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
  void Append(absl::Span<const uint32_t> ids, KvCache* cache = nullptr);
};

enum class LogitsOf { kNone, kLastToken, kAllTokens };

struct ForwardOptions {
  const HookSet* hooks = nullptr;  // not owned
  // kNone: the pass ends after the last hooked point, but never before the caches of the batch
  // have the keys and values of all layers.
  LogitsOf logits = LogitsOf::kNone;
  CancelToken cancel;  // polled after each block
};

struct LoadOptions {
  torch::Device device = torch::kCPU;
  torch::ScalarType dtype = torch::kFloat32;
  // Called with bytes read and bytes in all.
  std::function<void(uint64_t, uint64_t)> progress;
};

struct ModelWeights;

class Transformer {
 public:
  // Loads a directory in HF layout: config.json and safetensors, one file or shards with an index.
  //
  //   errors  those of ReadModelConfig
  //           InvalidArgument    a tensor is missing, has another shape, or is not finite
  //           ResourceExhausted  the device has no room
  static absl::StatusOr<std::shared_ptr<const Transformer>> Load(absl::string_view directory,
                                                                 const LoadOptions& options);
  ~Transformer();

  const ModelConfig& config() const { return config_; }
  torch::Device device() const { return device_; }
  torch::ScalarType dtype() const { return dtype_; }
  uint64_t n_parameters() const { return n_parameters_; }
  uint64_t memory_bytes() const { return memory_bytes_; }
  // SHA-256 over config.json and the weight files.
  const std::string& hash() const { return hash_; }

  // Runs the batch through the model.
  //
  //   returns  logits, float32, [sequences, d_vocab] (kLastToken) or [tokens, d_vocab]
  //   (kAllTokens);
  //            an undefined tensor for kNone
  //   errors   InvalidArgument  no tokens; a token id out of range; a sequence longer than n_ctx;
  //                             a hook that this model does not have
  //            Cancelled, DeadlineExceeded
  absl::StatusOr<torch::Tensor> Forward(const SequenceBatch& batch,
                                        const ForwardOptions& options) const;

  // An empty cache that grows up to config().n_ctx tokens.
  std::unique_ptr<KvCache> NewCache() const;

  // W_U, float32 or the compute dtype, [d_model, d_vocab].
  torch::Tensor unembedding() const;

 private:
  Transformer(ModelConfig config, std::unique_ptr<ModelWeights> weights, std::string hash,
              const LoadOptions& options);

  ModelConfig config_;
  std::unique_ptr<ModelWeights> weights_;
  std::string hash_;
  torch::Device device_;
  torch::ScalarType dtype_;
  uint64_t n_parameters_ = 0;
  uint64_t memory_bytes_ = 0;
};

}  // namespace featurescope
