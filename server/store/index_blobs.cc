#include "server/store/index_blobs.h"

#include <bit>
#include <cstring>

namespace featurescope {
namespace {

constexpr uint64_t kMaxListLength = 1u << 20;
constexpr uint64_t kNoLimit = ~uint64_t{0};

void PackEffects(const std::vector<LogitEffectRow>& effects, BlobWriter* out) {
  out->Varint(effects.size());
  for (const LogitEffectRow& effect : effects) {
    out->Varint(effect.token);
    out->Float(effect.effect);
  }
}

std::vector<LogitEffectRow> UnpackEffects(BlobReader* in) {
  const uint64_t n = in->Varint(kMaxListLength);
  std::vector<LogitEffectRow> effects;
  for (uint64_t i = 0; i < n && in->ok(); ++i) {
    LogitEffectRow effect;
    effect.token = static_cast<uint32_t>(in->Varint(UINT32_MAX));
    effect.effect = in->Float();
    effects.push_back(effect);
  }
  return effects;
}

void PackHistogramTo(const HistogramRow& histogram, BlobWriter* out) {
  out->Varint(histogram.edges.size());
  for (const float edge : histogram.edges) out->Float(edge);
  out->Varint(histogram.counts.size());
  for (const uint64_t count : histogram.counts) out->Varint(count);
}

HistogramRow UnpackHistogramFrom(BlobReader* in) {
  HistogramRow histogram;
  const uint64_t n_edges = in->Varint(kMaxListLength);
  for (uint64_t i = 0; i < n_edges && in->ok(); ++i) histogram.edges.push_back(in->Float());
  const uint64_t n_counts = in->Varint(kMaxListLength);
  for (uint64_t i = 0; i < n_counts && in->ok(); ++i) {
    histogram.counts.push_back(in->Varint(kNoLimit));
  }
  return histogram;
}

void PackExample(const ExampleRow& example, BlobWriter* out) {
  out->Varint(example.rank);
  out->Varint(example.context);
  out->Varint(example.position);
  out->Float(example.activation);
  out->Varint(example.window_start);
  out->Varint(example.tokens.size());
  for (const uint32_t token : example.tokens) out->Varint(token);
  uint64_t n_acts = 0;
  for (const float act : example.acts) n_acts += act != 0;
  out->Varint(n_acts);
  for (size_t i = 0; i < example.acts.size(); ++i) {
    if (example.acts[i] == 0) continue;
    out->Varint(i);
    out->Float(example.acts[i]);
  }
}

ExampleRow UnpackExample(BlobReader* in) {
  ExampleRow example;
  example.rank = static_cast<uint32_t>(in->Varint(UINT32_MAX));
  example.context = in->Varint(kNoLimit);
  example.position = static_cast<uint32_t>(in->Varint(UINT32_MAX));
  example.activation = in->Float();
  example.window_start = static_cast<uint32_t>(in->Varint(UINT32_MAX));
  const uint64_t n_tokens = in->Varint(kMaxExampleTokens);
  for (uint64_t i = 0; i < n_tokens && in->ok(); ++i) {
    example.tokens.push_back(static_cast<uint32_t>(in->Varint(UINT32_MAX)));
  }
  example.acts.assign(example.tokens.size(), 0.0f);
  const uint64_t n_acts = in->Varint(n_tokens);
  for (uint64_t i = 0; i < n_acts && in->ok(); ++i) {
    const uint64_t at = in->Varint(n_tokens - 1);
    const float act = in->Float();
    if (in->ok() && at < example.acts.size()) example.acts[at] = act;
  }
  return example;
}

// Appends the bits, low byte first.
template <typename Bits>
void AppendLittleEndian(Bits bits, std::string* out) {
  char bytes[sizeof(Bits)];
  for (size_t i = 0; i < sizeof(Bits); ++i) bytes[i] = static_cast<char>(bits >> (8 * i));
  out->append(bytes, sizeof(Bits));
}

// SQLite keeps no sign of zero.
double Unsigned0(double value) { return value + 0.0; }

}  // namespace

void BlobWriter::Varint(uint64_t value) {
  char bytes[10];
  size_t n = 0;
  for (; value >= 128; value >>= 7) bytes[n++] = static_cast<char>(value | 128);
  bytes[n++] = static_cast<char>(value);
  out_.append(bytes, n);
}

void BlobWriter::Float(float value) { AppendLittleEndian(std::bit_cast<uint32_t>(value), &out_); }

void BlobWriter::Double(double value) { AppendLittleEndian(std::bit_cast<uint64_t>(value), &out_); }

void BlobWriter::Bytes(absl::string_view bytes) {
  Varint(bytes.size());
  out_.append(bytes.data(), bytes.size());
}

uint64_t BlobReader::Varint(uint64_t limit) {
  uint64_t value = 0;
  for (int shift = 0; ok_ && shift < 64; shift += 7) {
    if (rest_.empty()) break;
    const auto byte = static_cast<unsigned char>(rest_.front());
    rest_.remove_prefix(1);
    if (shift == 63 && byte > 1) break;
    value |= uint64_t{byte & 127u} << shift;
    if (byte < 128) {
      if (value > limit) break;
      return value;
    }
  }
  ok_ = false;
  return 0;
}

float BlobReader::Float() {
  uint32_t bits = 0;
  if (!ok_ || rest_.size() < sizeof(bits)) {
    ok_ = false;
    return 0;
  }
  for (size_t i = 0; i < sizeof(bits); ++i) {
    bits |= uint32_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
  }
  rest_.remove_prefix(sizeof(bits));
  return std::bit_cast<float>(bits);
}

double BlobReader::Double() {
  uint64_t bits = 0;
  if (!ok_ || rest_.size() < sizeof(bits)) {
    ok_ = false;
    return 0;
  }
  for (size_t i = 0; i < sizeof(bits); ++i) {
    bits |= uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
  }
  rest_.remove_prefix(sizeof(bits));
  return std::bit_cast<double>(bits);
}

std::string PackHistogram(const HistogramRow& histogram) {
  BlobWriter out;
  PackHistogramTo(histogram, &out);
  return out.Take();
}

bool UnpackHistogram(absl::string_view packed, HistogramRow* histogram) {
  BlobReader in(packed);
  *histogram = UnpackHistogramFrom(&in);
  return in.done();
}

std::string PackDetail(const FeatureDetailRow& detail) {
  BlobWriter out;
  PackEffects(detail.top_logits, &out);
  PackEffects(detail.bottom_logits, &out);
  PackHistogramTo(detail.histogram, &out);
  out.Varint(detail.bands.size());
  for (const BandRow& band : detail.bands) {
    out.Float(band.low);
    out.Float(band.high);
    out.Double(band.share);
  }
  return out.Take();
}

bool UnpackDetail(absl::string_view packed, FeatureDetailRow* detail) {
  BlobReader in(packed);
  detail->top_logits = UnpackEffects(&in);
  detail->bottom_logits = UnpackEffects(&in);
  detail->histogram = UnpackHistogramFrom(&in);
  const uint64_t n_bands = in.Varint(kMaxIndexBands);
  detail->bands.clear();
  for (uint64_t i = 0; i < n_bands && in.ok(); ++i) {
    BandRow band;
    band.low = in.Float();
    band.high = in.Float();
    band.share = in.Double();
    detail->bands.push_back(band);
  }
  return in.done();
}

bool UnpackTopLogitTokens(absl::string_view packed, std::vector<uint32_t>* tokens) {
  BlobReader in(packed);
  const uint64_t n = in.Varint(kMaxListLength);
  for (uint64_t i = 0; i < n && in.ok(); ++i) {
    tokens->push_back(static_cast<uint32_t>(in.Varint(UINT32_MAX)));
    in.Float();
  }
  return in.ok();
}

std::string PackExamples(absl::Span<const ExampleRow* const> examples) {
  BlobWriter out;
  out.Varint(examples.size());
  for (const ExampleRow* example : examples) PackExample(*example, &out);
  return out.Take();
}

bool UnpackExamples(absl::string_view packed, uint32_t feature, uint32_t band, uint32_t max,
                    std::vector<ExampleRow>* examples) {
  BlobReader in(packed);
  const uint64_t n = in.Varint(kMaxExamplesPerBand);
  for (uint64_t i = 0; i < n && i < max; ++i) {
    ExampleRow example = UnpackExample(&in);
    if (!in.ok()) return false;
    example.feature = feature;
    example.band = band;
    examples->push_back(std::move(example));
  }
  return n > max ? in.ok() : in.done();
}

void HashToken(const TokenRow& token, Sha256* sha) {
  BlobWriter out;
  out.Varint(token.id);
  out.Bytes(token.bytes);
  out.Varint(token.special ? 1 : 0);
  sha->Update(out.Take());
}

void HashFeature(const FeatureRow& row, Sha256* sha) {
  BlobWriter out;
  out.Varint(row.feature);
  out.Varint(row.n_active);
  for (const double value : {row.density, row.mean, row.max, row.std, row.skewness, row.kurtosis,
                             row.p50, row.p90, row.p99, row.decoder_norm}) {
    out.Double(Unsigned0(value));
  }
  out.Varint(row.top_logit_token ? uint64_t{*row.top_logit_token} + 1 : 0);
  out.Varint(row.top_token ? uint64_t{*row.top_token} + 1 : 0);
  sha->Update(out.Take());
}

void HashBlob(absl::string_view packed, Sha256* sha) {
  BlobWriter length;
  length.Varint(packed.size());
  sha->Update(length.Take());
  sha->Update(packed);
}

void HashInfo(const IndexInfoRow& info, Sha256* sha) {
  BlobWriter out;
  for (const std::string* text :
       {&info.sae_id, &info.corpus_id, &info.model_id, &info.hook_name, &info.model_hash,
        &info.sae_hash, &info.corpus_hash, &info.dtype}) {
    out.Bytes(*text);
  }
  for (const uint64_t value :
       {info.n_tokens, info.n_contexts, uint64_t{info.d_sae}, uint64_t{info.n_alive},
        uint64_t{info.n_dead}, uint64_t{info.n_dense}, info.seed, uint64_t{info.top_examples},
        uint64_t{info.bands}, uint64_t{info.examples_per_band}, uint64_t{info.window}}) {
    out.Varint(value);
  }
  out.Double(Unsigned0(info.mean_l0));
  out.Double(Unsigned0(info.explained_variance));
  out.Bytes(PackHistogram(info.log10_density));
  sha->Update(out.Take());
}

}  // namespace featurescope
