#include "server/model/transformer.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "server/base/status.h"
#include "server/model/forward.h"
#include "server/model/model_weights.h"
#include "server/tensor/gate.h"

namespace featurescope {
namespace {

// Of `weights`, each tensor once; the tied matrix is one.
template <typename F>
void ForEachTensor(const ModelWeights& weights, F&& f) {
  std::vector<torch::Tensor> all = {weights.embed,           weights.pos_embed,
                                    weights.ln_final.weight, weights.ln_final.bias,
                                    weights.unembed,         weights.inv_freq};
  for (const BlockWeights& block : weights.blocks) {
    for (const NormWeights* norm : {&block.ln1, &block.q_norm, &block.k_norm, &block.attn_post_norm,
                                    &block.ln2, &block.mlp_post_norm}) {
      all.insert(all.end(), {norm->weight, norm->bias});
    }
    for (const LinearWeights* linear :
         {&block.qkv, &block.attn_out, &block.mlp_in, &block.mlp_up, &block.mlp_out}) {
      all.insert(all.end(), {linear->weight, linear->bias});
    }
  }
  absl::flat_hash_set<const void*> seen;
  for (const torch::Tensor& tensor : all) {
    if (tensor.defined() && seen.insert(tensor.data_ptr()).second) f(tensor);
  }
}

absl::Status CheckSequences(const SequenceBatch& batch, const ModelConfig& config) {
  if (batch.n_tokens() == 0) return InvalidArgument("the batch has no tokens");
  if (batch.offsets.front() != 0 || batch.offsets.back() != batch.n_tokens()) {
    return InvalidArgument("the batch's offsets do not cover its ", batch.n_tokens(), " tokens");
  }
  if (!batch.caches.empty() && static_cast<int64_t>(batch.caches.size()) != batch.n_sequences()) {
    return InvalidArgument("the batch has ", batch.caches.size(), " caches for ",
                           batch.n_sequences(), " sequences");
  }
  absl::flat_hash_set<const KvCache*> caches;
  for (size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const int64_t n = batch.offsets[i + 1] - batch.offsets[i];
    if (n <= 0) return InvalidArgument("sequence ", i, " has no tokens");
    int64_t cached = 0;
    if (!batch.caches.empty()) {
      if (batch.caches[i] == nullptr) return InvalidArgument("sequence ", i, " has no cache");
      if (!caches.insert(batch.caches[i]).second) {
        return InvalidArgument("sequence ", i, " shares its cache with another sequence");
      }
      cached = batch.caches[i]->length();
    }
    if (n + cached > config.n_ctx) {
      return InvalidArgument(
          "sequence ", i, " has ", n + cached, " tokens; the model's context is ", config.n_ctx,
          config.rotary.scaling == RopeScaling::kDynamic
              ? ", and longer sequences with dynamic rope scaling are not supported"
              : "");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTokens(const SequenceBatch& batch, const ModelConfig& config) {
  for (int64_t token : batch.tokens) {
    if (token < 0 || token >= config.d_vocab) {
      return InvalidArgument("token ", token, " is out of range [0, ", config.d_vocab, ")");
    }
  }
  return absl::OkStatus();
}

}  // namespace

void SequenceBatch::Append(absl::Span<const uint32_t> ids, KvCache* cache) {
  tokens.insert(tokens.end(), ids.begin(), ids.end());
  offsets.push_back(n_tokens());
  if (cache != nullptr) caches.push_back(cache);
}

Transformer::Transformer(ModelConfig config, std::unique_ptr<ModelWeights> weights,
                         std::string hash, const LoadOptions& options)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      hash_(std::move(hash)),
      device_(options.device),
      dtype_(options.dtype) {
  ForEachTensor(*weights_, [&](const torch::Tensor& tensor) {
    memory_bytes_ += tensor.nbytes();
    if (!tensor.is_same(weights_->inv_freq)) {
      n_parameters_ += static_cast<uint64_t>(tensor.numel());
    }
  });
}

Transformer::~Transformer() = default;

absl::StatusOr<torch::Tensor> Transformer::Forward(const SequenceBatch& batch,
                                                   const ForwardOptions& options) const {
  RETURN_IF_ERROR(CheckSequences(batch, config_));
  RETURN_IF_ERROR(CheckTokens(batch, config_));
  if (options.hooks != nullptr) {
    for (const auto& [hook, function] : options.hooks->entries()) {
      RETURN_IF_ERROR(config_.HookShape(hook).status());
    }
  }
  return TorchGate("forward pass", [&] { return RunForward(config_, *weights_, batch, options); });
}

std::unique_ptr<KvCache> Transformer::NewCache() const {
  return std::make_unique<KvCache>(config_.n_layers, config_.n_kv_heads, config_.d_head,
                                   config_.n_ctx, dtype_, device_);
}

torch::Tensor Transformer::unembedding() const { return weights_->unembed; }

}  // namespace featurescope
