#include "server/train/model_source.h"

#include <algorithm>
#include <cmath>

#include "server/base/status.h"
#include "server/tensor/gate.h"
#include "server/train/shuffle.h"

namespace featurescope {
namespace {

// Work of one forward pass, in multiplications of the model's weights with tokens: some 100 ms.
constexpr double kForwardWorkCpu = 5e9;
constexpr double kForwardWorkCuda = 5e12;

// Streams of seeds, so that no two uses of the run's seed share one.
constexpr uint64_t kContextStream = 0x636f6e7465787473;
constexpr uint64_t kSlotStream = 0x736c6f7473;

// A number that depends only on the model and the device, never on timing: floating-point results
// may depend on how tokens are batched.
uint64_t ContextsPerForward(const Transformer& model, uint32_t context_size) {
  const double work = model.device().is_cpu() ? kForwardWorkCpu : kForwardWorkCuda;
  const double parameters = std::max<double>(static_cast<double>(model.n_parameters()), 1.0);
  const double tokens = std::min(work / parameters, static_cast<double>(kMaxMicroBatchTokens));
  return std::max<uint64_t>(static_cast<uint64_t>(tokens) / context_size, 1);
}

std::vector<CorpusShare> SharesOf(const TrainingInputs& inputs) {
  std::vector<CorpusShare> shares = {{inputs.corpus, inputs.corpus_weight}};
  shares.insert(shares.end(), inputs.more_corpora.begin(), inputs.more_corpora.end());
  return shares;
}

// Tokens of a corpus' training contexts, BOS not counted where it is left out.
uint64_t TrainTokens(const TokenFile& corpus, const TrainingSpec& spec) {
  const uint64_t contexts = corpus.train_contexts().size();
  const uint64_t tokens = corpus.n_train_tokens();
  const bool without_bos = corpus.prepend_bos() && spec.exclude_special_tokens;
  return without_bos && tokens > contexts ? tokens - contexts : tokens;
}

}  // namespace

TokenFilter::TokenFilter(const TrainingInputs& inputs, const TrainingSpec& spec)
    : positions_(spec.positions) {
  if (!spec.exclude_special_tokens) return;
  special_ = inputs.special_tokens;
  for (const CorpusShare& share : SharesOf(inputs)) {
    if (share.corpus->prepend_bos()) special_.push_back(share.corpus->bos_id());
  }
  std::sort(special_.begin(), special_.end());
}

bool TokenFilter::IsSpecial(uint32_t token) const {
  return std::binary_search(special_.begin(), special_.end(), token);
}

void TokenFilter::AppendKept(const std::vector<uint32_t>& ids, int64_t first,
                             std::vector<int64_t>* kept) const {
  const auto n = static_cast<int64_t>(ids.size());
  int64_t begin = 0;
  int64_t end = n;
  if (positions_ != TokenPositions::kAll) {
    begin = positions_ == TokenPositions::kMiddle ? n / 2 : n - 1;
    end = begin + 1;
  }
  for (int64_t i = begin; i < end; ++i) {
    if (!IsSpecial(ids[i])) kept->push_back(first + i);
  }
}

absl::StatusOr<uint64_t> TokensOfOneEpoch(const TrainingInputs& inputs, const TrainingSpec& spec) {
  const TokenFilter filter(inputs, spec);
  uint64_t n = 0;
  for (const CorpusShare& share : SharesOf(inputs)) {
    if (spec.positions == TokenPositions::kAll) {
      n += TrainTokens(*share.corpus, spec);
      continue;
    }
    std::vector<int64_t> kept;
    std::vector<uint32_t> ids;
    for (uint64_t i = 0; i < share.corpus->train_contexts().end; ++i) {
      RETURN_IF_ERROR(share.corpus->Context(i, &ids));
      kept.clear();
      filter.AppendKept(ids, 0, &kept);
      n += kept.size();
    }
  }
  return n;
}

ContextOrder::ContextOrder(const TrainingInputs& inputs, uint64_t seed, Kind kind)
    : seed_(seed), kind_(kind) {
  const std::vector<CorpusShare> shares = SharesOf(inputs);
  double total = 0;
  for (const CorpusShare& share : shares) total += share.weight;
  for (const CorpusShare& share : shares) {
    corpora_.push_back(share.corpus.get());
    const double slots = std::round(share.weight / total * static_cast<double>(kSlots));
    counts_.push_back(std::max<uint64_t>(static_cast<uint64_t>(slots), 1));
    slots_.insert(slots_.end(), counts_.back(), static_cast<uint32_t>(corpora_.size() - 1));
  }
  ShuffleInPlace(slots_, Mix64(seed ^ kSlotStream));
  std::vector<uint64_t> seen(corpora_.size(), 0);
  for (const uint32_t corpus : slots_) ranks_.push_back(seen[corpus]++);
}

ContextOrder::Place ContextOrder::At(uint64_t i) const {
  if (kind_ == Kind::kInOrder) return {corpora_[0], i};
  uint64_t corpus = 0;
  if (corpora_.size() > 1) {
    const uint64_t slot = i % slots_.size();
    corpus = slots_[slot];
    i = i / slots_.size() * counts_[corpus] + ranks_[slot];
  }
  const uint64_t n = corpora_[corpus]->train_contexts().size();
  const uint64_t seed = Mix64(seed_ ^ kContextStream ^ corpus) ^ Mix64(i / n);
  return {corpora_[corpus], Permutation(n, seed)(i % n)};
}

absl::StatusOr<std::unique_ptr<ModelSource>> ModelSource::Create(
    const TrainingInputs& inputs, const std::vector<HookPoint>& hooks, const TrainingSpec& spec,
    ContextOrder::Kind order) {
  std::unique_ptr<ModelSource> source(new ModelSource(inputs, hooks, spec, order));
  for (const HookPoint& hook : hooks) {
    ASSIGN_OR_RETURN(const int64_t width, inputs.model->config().HookWidth(hook));
    source->widths_.push_back(width);
  }
  // What a context adds to the block on average.
  ASSIGN_OR_RETURN(const uint64_t epoch, TokensOfOneEpoch(inputs, spec));
  uint64_t contexts = 0;
  uint32_t longest = 0;
  for (const CorpusShare& share : SharesOf(inputs)) {
    contexts += share.corpus->train_contexts().size();
    longest = std::max(longest, share.corpus->context_size());
  }
  const double per_context = static_cast<double>(epoch) / static_cast<double>(contexts);
  source->contexts_per_block_ = std::max<uint64_t>(
      static_cast<uint64_t>(
          std::ceil(static_cast<double>(spec.buffer_tokens) / std::max(per_context, 1e-3) - 1e-6)),
      1);
  source->contexts_per_forward_ = ContextsPerForward(*inputs.model, longest);
  return source;
}

ModelSource::ModelSource(const TrainingInputs& inputs, const std::vector<HookPoint>& hooks,
                         const TrainingSpec& spec, ContextOrder::Kind order)
    : inputs_(inputs),
      hooks_(hooks),
      positions_(spec.positions),
      filter_(inputs, spec),
      order_(inputs, spec.seed, order) {}

int64_t ModelSource::MaxRows(uint64_t block) const {
  if (positions_ != TokenPositions::kAll) return static_cast<int64_t>(contexts_per_block_);
  int64_t rows = 0;
  for (uint64_t i = 0; i < contexts_per_block_; ++i) {
    const ContextOrder::Place place = order_.At(block * contexts_per_block_ + i);
    if (place.context < place.corpus->n_contexts()) {
      rows += place.corpus->ContextLength(place.context);
    }
  }
  return rows;
}

absl::StatusOr<bool> ModelSource::Read(uint64_t block, uint64_t piece, const CancelToken& cancel,
                                       std::vector<torch::Tensor>* rows, int64_t* n_rows) {
  const uint64_t begin = piece * contexts_per_forward_;
  const uint64_t end = std::min(begin + contexts_per_forward_, contexts_per_block_);
  std::vector<ContextOrder::Place> places;
  for (uint64_t i = begin; i < end; ++i) {
    const ContextOrder::Place place = order_.At(block * contexts_per_block_ + i);
    if (place.context < place.corpus->train_contexts().end) places.push_back(place);
  }
  if (!places.empty()) RETURN_IF_ERROR(ForwardContexts(places, cancel, rows, n_rows));
  return end == contexts_per_block_;
}

absl::Status ModelSource::ForwardContexts(const std::vector<ContextOrder::Place>& places,
                                          const CancelToken& cancel,
                                          std::vector<torch::Tensor>* rows, int64_t* n_rows) {
  SequenceBatch batch;
  std::vector<int64_t> kept;
  std::vector<uint32_t> ids;
  for (const ContextOrder::Place& place : places) {
    RETURN_IF_ERROR(place.corpus->Context(place.context, &ids));
    filter_.AppendKept(ids, batch.n_tokens(), &kept);
    batch.Append(ids);
  }
  std::vector<torch::Tensor> seen(hooks_.size());
  HookSet hooks;
  // What one hook saw may be computed on in place before the next is reached.
  const bool several = hooks_.size() > 1;
  for (size_t i = 0; i < hooks_.size(); ++i) {
    hooks.Add(hooks_[i], [&seen, i, several](const HookContext&, torch::Tensor& value) {
      seen[i] = several ? value.detach().clone() : value.detach();
    });
  }
  ForwardOptions options;
  options.hooks = &hooks;
  options.cancel = cancel;
  RETURN_IF_ERROR(inputs_.model->Forward(batch, options).status());
  return TorchGate("keeping activations", [&]() -> absl::Status {
    const torch::Tensor index = torch::tensor(kept, torch::kInt64).to(device());
    for (size_t i = 0; i < hooks_.size(); ++i) {
      if (!seen[i].defined()) {
        return Internal("the forward pass did not reach ", hooks_[i].name());
      }
      RETURN_IF_ERROR(KeepRows(hooks_[i], seen[i], index, places[0], *n_rows, &(*rows)[i]));
    }
    *n_rows += index.numel();
    return absl::OkStatus();
  });
}

absl::Status ModelSource::KeepRows(const HookPoint& hook, const torch::Tensor& activations,
                                   const torch::Tensor& kept, const ContextOrder::Place& first,
                                   int64_t n_rows, torch::Tensor* rows) const {
  if (kept.numel() == 0) return absl::OkStatus();
  torch::Tensor destination = rows->slice(0, n_rows, n_rows + kept.numel());
  destination.copy_(activations.reshape({-1, rows->size(1)}).index_select(0, kept));
  if (!torch::isfinite(destination).all().item<bool>()) {
    return FailedPrecondition("the model's activations at ", hook.name(),
                              " are not finite, in or after context ", first.context,
                              " of the corpus ", first.corpus->dir());
  }
  return absl::OkStatus();
}

}  // namespace featurescope
