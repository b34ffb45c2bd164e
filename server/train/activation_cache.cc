#include "server/train/activation_cache.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "server/base/status.h"
#include "server/formats/file.h"
#include "server/formats/json.h"
#include "server/tensor/gate.h"
#include "server/tensor/weights.h"
#include "server/train/activation_files.h"
#include "server/train/model_source.h"

namespace featurescope {
namespace {

using nlohmann::json;

constexpr char kPlanFile[] = "plan.json";  // of a cache that is being written

absl::string_view DTypeText(DType dtype) {
  return dtype == DType::kF16 ? "float16" : dtype == DType::kBF16 ? "bfloat16" : "float32";
}

uint64_t BytesPerValue(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// What the stream of a training run would be told.
TrainingSpec StreamSpec(const ActivationCacheSpec& spec) {
  TrainingSpec stream;
  stream.exclude_special_tokens = spec.exclude_special_tokens;
  stream.positions = spec.positions;
  stream.buffer_tokens = spec.rows_per_shard;
  return stream;
}

TrainingInputs OneCorpus(TrainingInputs inputs) {
  inputs.more_corpora.clear();
  return inputs;
}

class CacheWriter {
 public:
  CacheWriter(const TrainingInputs& inputs, const ActivationCacheSpec& spec, const RunContext& ctx,
              const std::string& dir)
      : inputs_(OneCorpus(inputs)), spec_(spec), ctx_(ctx), dir_(dir) {}

  absl::Status Write() {
    RETURN_IF_ERROR(EnsureDir(dir_));
    ASSIGN_OR_RETURN(source_, ModelSource::Create(inputs_, spec_.hooks, StreamSpec(spec_),
                                                  ContextOrder::Kind::kInOrder));
    RETURN_IF_ERROR(CheckPlan());
    const uint64_t contexts = inputs_.corpus->train_contexts().size();
    n_shards_ = (contexts + source_->contexts_per_block() - 1) / source_->contexts_per_block();
    if (n_shards_ > kMaxActivationShards) {
      return InvalidField("rows_per_shard", "rows_per_shard is ", spec_.rows_per_shard,
                          ", which makes ", n_shards_, " shards; ", kMaxActivationShards,
                          " are allowed");
    }
    for (uint64_t shard = 0; shard < n_shards_; ++shard) {
      RETURN_IF_ERROR(WriteShard(shard));
      Report(shard + 1);
    }
    return Finish();
  }

 private:
  json Plan() const {
    json channels = json::array();
    for (size_t i = 0; i < spec_.hooks.size(); ++i) {
      channels.push_back({{"hook", spec_.hooks[i].name()}, {"width", source_->widths()[i]}});
    }
    return {{"format", 1},
            {"dtype", DTypeText(spec_.dtype)},
            {"channels", channels},
            {"contexts_per_shard", source_->contexts_per_block()},
            {"exclude_special_tokens", spec_.exclude_special_tokens},
            {"special_tokens", inputs_.special_tokens},
            {"positions", EnumName(spec_.positions)},
            {"model", inputs_.model->hash()},
            {"corpus", inputs_.corpus->hash()}};
  }

  // A cache of other arguments is not continued.
  absl::Status CheckPlan() {
    const std::string path = JoinPath(dir_, kPlanFile);
    const std::string text = Plan().dump(2);
    if (!FileExists(path)) return WriteFileAtomically(path, text);
    ASSIGN_OR_RETURN(const json there, ReadJsonFile(path));
    if (there == json::parse(text)) return absl::OkStatus();
    return FailedPrecondition(dir_, " holds another cache of activations, which ", kPlanFile,
                              " describes");
  }

  absl::Status WriteShard(uint64_t shard) {
    bool there = true;
    for (size_t i = 0; i < spec_.hooks.size(); ++i) {
      there = there && FileExists(ActivationShardPath(dir_, i, static_cast<int64_t>(shard)));
    }
    if (there) return absl::OkStatus();
    int64_t n_rows = 0;
    RETURN_IF_ERROR(Forward(shard, &n_rows));
    if (n_rows == 0) {
      return FailedPrecondition("shard ", shard,
                                " of the activations would have no rows: all its "
                                "tokens are special");
    }
    for (size_t i = 0; i < spec_.hooks.size(); ++i) {
      RETURN_IF_ERROR(
          WriteRows(i, n_rows, ActivationShardPath(dir_, i, static_cast<int64_t>(shard))));
    }
    return absl::OkStatus();
  }

  absl::Status Forward(uint64_t shard, int64_t* n_rows) {
    const int64_t capacity = source_->MaxRows(shard);
    rows_.resize(spec_.hooks.size());
    RETURN_IF_ERROR(TorchGate("allocating the activation buffer", [&] {
      for (size_t i = 0; i < rows_.size(); ++i) {
        if (rows_[i].defined() && rows_[i].size(0) >= capacity) continue;
        rows_[i] =
            torch::empty({capacity, source_->widths()[i]},
                         torch::TensorOptions().dtype(torch::kFloat32).device(source_->device()));
      }
    }));
    bool last = false;
    for (uint64_t piece = 0; !last; ++piece) {
      RETURN_IF_ERROR(ctx_.device->RunBackground(ctx_.cancel, [&]() -> absl::Status {
        ASSIGN_OR_RETURN(last, source_->Read(shard, piece, ctx_.cancel, &rows_, n_rows));
        return absl::OkStatus();
      }));
    }
    return absl::OkStatus();
  }

  absl::Status WriteRows(size_t channel, int64_t n_rows, const std::string& path) const {
    ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
    constexpr int64_t kRows = 4096;
    for (int64_t begin = 0; begin < n_rows; begin += kRows) {
      const int64_t end = std::min(begin + kRows, n_rows);
      torch::Tensor piece;
      RETURN_IF_ERROR(TorchGate("rounding activations", [&]() -> absl::Status {
        piece =
            rows_[channel].slice(0, begin, end).cpu().to(ToScalarType(spec_.dtype)).contiguous();
        if (torch::isfinite(piece).all().item<bool>()) return absl::OkStatus();
        return FailedPrecondition("activations at ", spec_.hooks[channel].name(),
                                  " are too large for ", DTypeText(spec_.dtype));
      }));
      RETURN_IF_ERROR(file.Append(
          absl::string_view(static_cast<const char*>(piece.data_ptr()), piece.nbytes())));
    }
    return file.Commit();
  }

  absl::Status Finish() {
    json meta = Plan();
    meta["shards"] = n_shards_;
    int64_t rows = 0;
    for (uint64_t shard = 0; shard < n_shards_; ++shard) {
      ASSIGN_OR_RETURN(const RawMemmap file,
                       RawMemmap::Open(ActivationShardPath(dir_, 0, static_cast<int64_t>(shard)),
                                       spec_.dtype, source_->widths()[0]));
      rows += file.n_rows();
    }
    meta["rows"] = rows;
    return WriteFileAtomically(JoinPath(dir_, kActivationCacheFile), meta.dump(2));
  }

  void Report(uint64_t shards_done) const {
    if (!ctx_.on_progress) return;
    RunProgress progress;
    progress.fraction = static_cast<double>(shards_done) / static_cast<double>(n_shards_);
    progress.phase = "writing activations";
    progress.tokens_done = std::min(shards_done * source_->contexts_per_block(),
                                    inputs_.corpus->train_contexts().size()) *
                           inputs_.corpus->context_size();
    ctx_.on_progress(progress);
  }

  const TrainingInputs inputs_;
  const ActivationCacheSpec& spec_;
  const RunContext& ctx_;
  const std::string dir_;
  std::unique_ptr<ModelSource> source_;
  std::vector<torch::Tensor> rows_;
  uint64_t n_shards_ = 0;
};

absl::Status CheckSpec(const TrainingInputs& inputs, const ActivationCacheSpec& spec) {
  if (spec.hooks.empty() || spec.hooks.size() > 64) {
    return InvalidField("hooks", "there are ", spec.hooks.size(), " hooks; 1 to 64 are allowed");
  }
  if (spec.dtype != DType::kF16 && spec.dtype != DType::kBF16 && spec.dtype != DType::kF32) {
    return InvalidField("dtype", "dtype may be float16, bfloat16 or float32");
  }
  if (spec.rows_per_shard < 1 || spec.rows_per_shard > (1 << 26)) {
    return InvalidField("rows_per_shard", "rows_per_shard is ", spec.rows_per_shard,
                        ", out of range [1, ", 1 << 26, "]");
  }
  for (const HookPoint& hook : spec.hooks) {
    RETURN_IF_ERROR(inputs.model->config().HookWidth(hook).status());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteActivationCache(const TrainingInputs& inputs, const ActivationCacheSpec& spec,
                                  const RunContext& ctx, const std::string& dir) {
  RETURN_IF_ERROR(CheckSpec(inputs, spec));
  if (FileExists(JoinPath(dir, kActivationCacheFile)) && !FileExists(JoinPath(dir, kPlanFile))) {
    return FailedPrecondition(dir, " holds another cache of activations");
  }
  return CacheWriter(inputs, spec, ctx, dir).Write();
}

absl::StatusOr<uint64_t> ActivationCacheBytes(const TrainingInputs& inputs,
                                              const ActivationCacheSpec& spec) {
  RETURN_IF_ERROR(CheckSpec(inputs, spec));
  ASSIGN_OR_RETURN(const uint64_t rows, TokensOfOneEpoch(OneCorpus(inputs), StreamSpec(spec)));
  uint64_t width = 0;
  for (const HookPoint& hook : spec.hooks) {
    ASSIGN_OR_RETURN(const int64_t of_hook, inputs.model->config().HookWidth(hook));
    width += static_cast<uint64_t>(of_hook);
  }
  return rows * width * BytesPerValue(spec.dtype);
}

}  // namespace featurescope
