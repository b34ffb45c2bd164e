#include "server/sae/sae.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "server/base/status.h"
#include "server/sae/architectures.h"
#include "server/tensor/gate.h"
#include "server/tensor/sparse_ops.h"

namespace featurescope {
namespace {

// The piece of hidden_pre that exists at a time.
constexpr int64_t kPieceBytes = 32 << 20;

int64_t PieceRows(int64_t d_sae) {
  const int64_t rows = kPieceBytes / (static_cast<int64_t>(sizeof(float)) * d_sae);
  return std::max<int64_t>(rows / 16 * 16, 16);
}

// A buffer [rows, cols] that the thread keeps, because fresh pages cost more than the product that
// fills them. CUDA has its own cache of allocations.
torch::Tensor Scratch(int64_t rows, int64_t cols, const torch::Tensor& like) {
  if (!like.is_cpu()) return torch::empty({rows, cols}, like.options());
  thread_local torch::Tensor buffer;
  if (!buffer.defined() || buffer.numel() < rows * cols) {
    buffer = torch::empty({rows * cols}, torch::kFloat32);
  }
  return buffer.slice(0, 0, rows * cols).view({rows, cols});
}

// The entries that are not zero.
SparseRows WithoutZeros(const SparseRows& sparse) {
  const torch::Tensor kept = sparse.values != 0;
  torch::Tensor before = torch::zeros({sparse.nnz() + 1}, sparse.row_offsets.options());
  before.slice(0, 1).copy_(kept.cumsum(0));
  return {before.index_select(0, sparse.row_offsets), sparse.indices.masked_select(kept),
          sparse.values.masked_select(kept), sparse.n_cols};
}

std::string ShapeText(at::IntArrayRef shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::Status CheckParameter(const SaeParameterSpec& spec, const SaeConfig& config,
                            torch::Tensor& tensor) {
  const std::vector<int64_t> shape = ParameterShape(spec.bit, config);
  if (!tensor.defined() || tensor.sizes() != at::IntArrayRef(shape)) {
    return InvalidArgument(spec.name, " is ",
                           tensor.defined() ? ShapeText(tensor.sizes()) : "missing", " instead of ",
                           ShapeText(shape));
  }
  tensor = tensor.detach().to(torch::kFloat32).contiguous();
  if (!torch::isfinite(tensor).all().item<bool>()) {
    return InvalidArgument(spec.name, " has values that are not finite");
  }
  return absl::OkStatus();
}

absl::Status CheckParameters(const SaeArchitecture& architecture, const SaeConfig& config,
                             SaeParameters* parameters) {
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    torch::Tensor& tensor = parameters->*spec.tensor;
    if ((architecture.parameters & spec.bit) == 0) {
      if (tensor.defined()) {
        return InvalidArgument(spec.name, " is given, but a ", architecture.name,
                               " SAE has no such parameter");
      }
      continue;
    }
    if (spec.bit == kThreshold && config.whole_batch && !tensor.defined()) continue;
    RETURN_IF_ERROR(CheckParameter(spec, config, tensor));
  }
  return absl::OkStatus();
}

absl::Status CheckConfig(const SaeConfig& config) {
  for (const auto& [name, width] : {std::pair<const char*, int64_t>{"d_in", config.d_in},
                                    {"d_sae", config.d_sae},
                                    {"d_out", config.d_out}}) {
    if (width < 1 || width > kMaxSaeWidth) {
      return InvalidArgument(name, " is ", width, ", out of range [1, ", kMaxSaeWidth, "]");
    }
  }
  const bool transcoder = IsTranscoder(config.architecture);
  if (!transcoder && config.d_out != config.d_in) {
    return InvalidArgument("d_out is ", config.d_out, " and d_in ", config.d_in, ", but a ",
                           config.architecture, " SAE is no transcoder");
  }
  if (transcoder && config.apply_b_dec_to_input) {
    return InvalidArgument("apply_b_dec_to_input is set, but a ", config.architecture,
                           "'s b_dec belongs to its output");
  }
  if (transcoder && config.reshape_hook_z) {
    return Unimplemented("reshape_activations hook_z is not supported for transcoders");
  }
  if (config.whole_batch && !absl::EndsWith(config.architecture, "batchtopk")) {
    return InvalidArgument("a ", config.architecture, " SAE does not select over a whole batch");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<int64_t> ParameterShape(unsigned bit, const SaeConfig& config) {
  switch (bit) {
    case kWEnc:
      return {config.d_in, config.d_sae};
    case kWDec:
      return {config.d_sae, config.d_out};
    case kBDec:
      return {config.d_out};
    case kWSkip:
      return {config.d_out, config.d_in};
    case kThreshold:
      if (absl::EndsWith(config.architecture, "batchtopk")) return {};
      return {config.d_sae};
    default:
      return {config.d_sae};
  }
}

const SaeArchitecture* FindSaeArchitecture(absl::string_view name) {
  for (const SaeArchitecture& architecture : kSaeArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

absl::Status CheckSaeArchitecture(absl::string_view name) {
  if (FindSaeArchitecture(name) != nullptr) return absl::OkStatus();
  return Unimplemented(
      "SAE architecture '", name, "' is not supported; these are: ",
      absl::StrJoin(kSaeArchitectures, ", ", [](std::string* out, const SaeArchitecture& known) {
        absl::StrAppend(out, known.name);
      }));
}

absl::StatusOr<std::shared_ptr<const Sae>> Sae::Create(SaeConfig config, SaeParameters parameters) {
  RETURN_IF_ERROR(CheckSaeArchitecture(config.architecture));
  const SaeArchitecture& architecture = *FindSaeArchitecture(config.architecture);
  if (config.d_out == 0) config.d_out = config.d_in;
  RETURN_IF_ERROR(CheckConfig(config));
  return TorchGate("making an SAE", [&]() -> absl::StatusOr<std::shared_ptr<const Sae>> {
    RETURN_IF_ERROR(CheckParameters(architecture, config, &parameters));
    ASSIGN_OR_RETURN(std::shared_ptr<Sae> sae,
                     architecture.make(std::move(config), std::move(parameters)));
    return sae;
  });
}

Sae::Sae(SaeConfig config, SaeParameters parameters)
    : config_(std::move(config)), parameters_(std::move(parameters)) {
  if (!config_.rescale_acts_by_decoder_norm) return;
  decoder_norms_ = parameters_.W_dec.norm(2, {1});
  has_zero_norm_ = (decoder_norms_ == 0).any().item<bool>();
}

uint64_t Sae::memory_bytes() const {
  uint64_t bytes = 0;
  for (const SaeParameterSpec& spec : kSaeParameterSpecs) {
    const torch::Tensor& tensor = parameters_.*spec.tensor;
    if (tensor.defined()) bytes += tensor.nbytes();
  }
  return bytes;
}

absl::StatusOr<torch::Tensor> Sae::AsRows(const torch::Tensor& x) const {
  if (!x.defined() || x.dim() < 1) return InvalidArgument("the SAE's input has no rows");
  const int64_t n = x.dim() == 1 ? 1 : x.size(0);
  const int64_t width = n == 0 ? config_.d_in : x.numel() / n;
  if (width != config_.d_in) {
    return InvalidArgument("vectors of ", width, " values; the SAE takes ", config_.d_in);
  }
  return x.detach().to(device(), torch::kFloat32).reshape({n, config_.d_in}).contiguous();
}

torch::Tensor Sae::Normalize(const torch::Tensor& x, RowNormalization* normalization) const {
  torch::Tensor rows = x;  // [n, d_in]
  switch (config_.normalize_activations) {
    case NormalizeActivations::kNone:
    case NormalizeActivations::kExpectedAverageOnlyIn:
      break;
    case NormalizeActivations::kConstantNormRescale: {
      const torch::Tensor norm = rows.norm(2, {1}, /*keepdim=*/true);
      const torch::Tensor scale = norm / std::sqrt(static_cast<double>(config_.d_in));
      normalization->scale = scale;
      rows = rows / scale.masked_fill(scale == 0, 1);  // a zero row stays zero
      break;
    }
    case NormalizeActivations::kLayerNorm: {
      const torch::Tensor mean = rows.mean(1, /*keepdim=*/true);
      const torch::Tensor centred = rows - mean;
      const torch::Tensor std = centred.std(1, /*unbiased=*/true, /*keepdim=*/true);
      normalization->shift = mean;
      normalization->scale = std;
      rows = centred / (std + 1e-5);
      break;
    }
  }
  return config_.apply_b_dec_to_input ? rows - parameters_.b_dec : rows;
}

void Sae::ForEachPiece(const torch::Tensor& x,
                       absl::FunctionRef<void(torch::Tensor& hidden_pre)> activate) const {
  const int64_t n = x.size(0);
  const int64_t piece = std::min(PieceRows(config_.d_sae), std::max<int64_t>(n, 1));
  int64_t begin = 0;
  do {
    const int64_t end = std::min(begin + piece, n);
    torch::Tensor hidden_pre = Scratch(end - begin, config_.d_sae, x);
    at::mm_out(hidden_pre, x.slice(0, begin, end), parameters_.W_enc);
    activate(hidden_pre);
    begin = end;
  } while (begin < n);
}

SparseRows Sae::ActivateRows(const torch::Tensor& x) const {
  std::vector<SparseRows> parts;
  ForEachPiece(x, [&](torch::Tensor& hidden_pre) { parts.push_back(Activate(hidden_pre)); });
  return Concatenate(parts);
}

torch::Tensor Sae::ActivateFeatures(const torch::Tensor& x, const torch::Tensor& features) const {
  const int64_t piece = PieceRows(config_.d_sae);
  std::vector<torch::Tensor> parts = {torch::empty({0, features.size(0)}, x.options())};
  for (int64_t begin = 0; begin < x.size(0); begin += piece) {
    const SparseRows acts = ActivateRows(x.slice(0, begin, std::min(begin + piece, x.size(0))));
    parts.push_back(acts.ToDense().index_select(1, features));
  }
  return torch::cat(parts);
}

torch::Tensor Sae::Project(const torch::Tensor& x, const torch::Tensor& features) const {
  return torch::mm(x, parameters_.W_enc.index_select(1, features));
}

SparseRows Sae::TimesDecoderNorms(SparseRows acts) const {
  if (!decoder_norms_.defined()) return acts;
  acts.values = acts.values * decoder_norms_.index_select(0, acts.indices);
  return has_zero_norm_ ? WithoutZeros(acts) : acts;
}

torch::Tensor Sae::TimesDecoderNorms(const torch::Tensor& acts,
                                     const torch::Tensor& features) const {
  return decoder_norms_.defined() ? acts * decoder_norms_.index_select(0, features) : acts;
}

SparseRows Sae::DecoderInput(const SparseRows& acts) const {
  if (!decoder_norms_.defined()) return acts;
  const torch::Tensor norms = decoder_norms_.index_select(0, acts.indices);
  SparseRows rescaled = acts;
  // A row of zeros adds nothing, whatever it is multiplied with.
  rescaled.values = acts.values / norms.masked_fill(norms == 0, 1);
  return rescaled;
}

absl::StatusOr<EncodedRows> Sae::Encode(const torch::Tensor& x) const {
  return TorchGate("encoding", [&]() -> absl::StatusOr<EncodedRows> {
    ASSIGN_OR_RETURN(const torch::Tensor rows, AsRows(x));
    EncodedRows encoded;
    encoded.acts = ActivateRows(Normalize(rows, &encoded.normalization));
    // The output of a transcoder is not of the input's scale: there is no way back.
    if (is_transcoder()) encoded.normalization = {};
    if (parameters_.W_skip.defined()) encoded.skip_input = rows;
    return encoded;
  });
}

absl::StatusOr<torch::Tensor> Sae::EncodeFeatures(const torch::Tensor& x,
                                                  absl::Span<const uint32_t> features) const {
  std::vector<int64_t> indices;
  for (uint32_t feature : features) {
    if (feature >= config_.d_sae) {
      return InvalidArgument("feature ", feature, " is out of range [0, ", config_.d_sae, ")");
    }
    indices.push_back(feature);
  }
  return TorchGate("encoding features", [&]() -> absl::StatusOr<torch::Tensor> {
    ASSIGN_OR_RETURN(const torch::Tensor rows, AsRows(x));
    RowNormalization normalization;
    return ActivateFeatures(Normalize(rows, &normalization),
                            torch::tensor(indices, torch::kInt64).to(device()));
  });
}

torch::Tensor Sae::Decode(const EncodedRows& encoded) const {
  torch::NoGradGuard no_grad;
  torch::Tensor x_hat =
      SparseTimesDense(DecoderInput(encoded.acts), parameters_.W_dec).add_(parameters_.b_dec);
  if (parameters_.W_skip.defined() && encoded.skip_input.defined()) {
    x_hat.addmm_(encoded.skip_input, parameters_.W_skip.t());
  }
  if (encoded.normalization.scale.defined()) x_hat.mul_(encoded.normalization.scale);
  if (encoded.normalization.shift.defined()) x_hat.add_(encoded.normalization.shift);
  return x_hat;
}

torch::Tensor Sae::FeatureDirection(uint32_t feature) const {
  torch::NoGradGuard no_grad;
  SparseRows one;
  const torch::Device where = device();
  one.row_offsets = torch::tensor({0, 1}, torch::kInt64).to(where);
  one.indices = torch::full({1}, static_cast<int64_t>(feature), torch::kInt32).to(where);
  one.values = torch::ones({1}).to(where);
  one.n_cols = config_.d_sae;
  return SparseTimesDense(DecoderInput(one), parameters_.W_dec)[0];
}

}  // namespace featurescope
