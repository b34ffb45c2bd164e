// LibTorch's own bfloat16 product rounds its results to bfloat16, which leaves many equal
// activations for a selection to choose from, and reorders the weights in every call. oneDNN, which
// it uses underneath, can do without either when it is called directly.
#include "server/tensor/weight_product.h"

#include <map>
#include <utility>

#include "server/tensor/sparse_rows.h"

#if FEATURESCOPE_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace featurescope {

bool HasFastBfloat16() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

#if FEATURESCOPE_ONEDNN
class WeightProduct::Packed {
 public:
  using memory = dnnl::memory;

  void SetWeights(const torch::Tensor& W) {
    if (W.size(0) != m_ || W.size(1) != d_) {
      m_ = W.size(0);
      d_ = W.size(1);
      products_.clear();
      // The layout is that of the first product; the others are asked to take it.
      weights_ = memory(Describe(kRows, memory::format_tag::any).weights_desc(), engine_);
    }
    memory::desc plain({d_, m_}, memory::data_type::f32, memory::format_tag::ba);
    memory from(plain, engine_, W.data_ptr<float>());
    dnnl::reorder(from, weights_).execute(stream_, from, weights_);
    stream_.wait();
  }

  void Multiply(const torch::Tensor& x, torch::Tensor& out) {
    const int64_t n = x.size(0);
    auto it = products_.find(n);
    if (it == products_.end()) {
      it = products_.emplace(n, dnnl::matmul(Describe(n, weights_.get_desc()))).first;
    }
    memory from({{n, d_}, memory::data_type::bf16, memory::format_tag::ab}, engine_, x.data_ptr());
    memory to({{n, m_}, memory::data_type::f32, memory::format_tag::ab}, engine_,
              out.data_ptr<float>());
    it->second.execute(stream_,
                       {{DNNL_ARG_SRC, from}, {DNNL_ARG_WEIGHTS, weights_}, {DNNL_ARG_DST, to}});
    stream_.wait();
  }

 private:
  static constexpr int64_t kRows = 256;

  dnnl::matmul::primitive_desc Describe(int64_t n, memory::format_tag weights) const {
    return Describe(n, memory::desc({d_, m_}, memory::data_type::bf16, weights));
  }
  dnnl::matmul::primitive_desc Describe(int64_t n, const memory::desc& weights) const {
    const memory::desc from({n, d_}, memory::data_type::bf16, memory::format_tag::ab);
    const memory::desc to({n, m_}, memory::data_type::f32, memory::format_tag::ab);
    return {dnnl::matmul::desc(from, weights, to), engine_};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  int64_t m_ = 0;
  int64_t d_ = 0;
  memory weights_;
  std::map<int64_t, dnnl::matmul> products_;  // by rows
};
#else
class WeightProduct::Packed {
 public:
  void SetWeights(const torch::Tensor&) {}
  void Multiply(const torch::Tensor&, torch::Tensor&) {}
};
#endif

WeightProduct::WeightProduct(Factors factors, Way way) : factors_(factors), way_(way) {}
WeightProduct::~WeightProduct() = default;

bool WeightProduct::RoundsSums(Way way) {
  return FEATURESCOPE_ONEDNN == 0 && (way == Way::kLibraries || !AmxProduct::Available());
}

uint64_t WeightProduct::WeightBytes(Factors factors, int64_t m, int64_t d) {
  if (AmxProduct::Available()) return AmxProduct::WeightBytes(factors, m, d);
  return factors == Factors::kFloat32 ? 0 : static_cast<uint64_t>(m) * d * sizeof(at::BFloat16);
}

void WeightProduct::SetWeights(const torch::Tensor& W) {
  const bool loops = UsesLoops(W);
  if (loops && way_ == Way::kFastest && AmxProduct::Available()) {
    if (amx_ == nullptr) amx_ = std::make_unique<AmxProduct>(factors_);
    amx_->SetWeights(W.data_ptr<float>(), W.size(0), W.size(1));
    return;
  }
  amx_.reset();
  if (factors_ == Factors::kFloat32) {
    W_ = W;
  } else if (FEATURESCOPE_ONEDNN != 0 && loops) {
    if (packed_ == nullptr) packed_ = std::make_unique<Packed>();
    packed_->SetWeights(W);
  } else {
    packed_.reset();
    if (!W_.defined()) W_ = torch::empty_like(W, W.options().dtype(torch::kBFloat16));
    W_.copy_(W);
  }
}

void WeightProduct::Multiply(const torch::Tensor& x, torch::Tensor& out) {
  if (amx_ != nullptr) {
    amx_->Multiply(x.data_ptr<float>(), x.size(0), out.data_ptr<float>());
  } else if (factors_ == Factors::kFloat32) {
    at::mm_out(out, x, W_.t());
  } else {
    MultiplyRounded(x, out);
  }
}

void WeightProduct::MultiplyRounded(const torch::Tensor& x, torch::Tensor& out) {
  const int64_t n = x.size(0);
  if (!x_.defined() || x_.size(0) < n || x_.size(1) != x.size(1)) {
    x_ = torch::empty_like(x, x.options().dtype(torch::kBFloat16));
  }
  torch::Tensor rounded = x_.slice(0, 0, n);
  rounded.copy_(x);
  if (packed_ != nullptr) {
    packed_->Multiply(rounded, out);
    return;
  }
  if (!half_.defined() || half_.size(0) < n || half_.size(1) != out.size(1)) {
    half_ = torch::empty_like(out, out.options().dtype(torch::kBFloat16));
  }
  torch::Tensor product = half_.slice(0, 0, n);
  at::mm_out(product, rounded, W_.t());
  out.copy_(product);
}

}  // namespace featurescope
