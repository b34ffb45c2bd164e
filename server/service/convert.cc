#include "server/service/convert.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/text/display.h"

namespace featurescope {

std::string FormatTimestamp(int64_t ms_since_1970) {
  if (ms_since_1970 == 0) return "";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixMillis(ms_since_1970),
                          absl::UTCTimeZone());
}

void ToProto(const Token& token, v1::Token* out) {
  out->set_id(token.id);
  out->set_text(token.bytes);
  out->set_display(token.display);
  out->set_special(token.special);
}

void ToProto(const TokenRow& token, v1::Token* out) {
  out->set_id(token.id);
  out->set_text(token.bytes);
  out->set_display(token.bytes.empty() ? absl::StrCat("[", token.id, "]")
                                       : DisplayToken(token.bytes));
  out->set_special(token.special);
}

void ToProto(const SparseActivations& acts, v1::SparseRows* out) {
  out->mutable_row_offsets()->Add(acts.row_offsets.begin(), acts.row_offsets.end());
  out->mutable_indices()->Add(acts.indices.begin(), acts.indices.end());
  out->mutable_values()->Add(acts.values.begin(), acts.values.end());
  out->set_n_cols(acts.n_cols);
}

void ToProto(const SaeActivations& acts, v1::SaeActivations* out) {
  out->set_sae_id(acts.sae_id);
  ToProto(acts.acts, out->mutable_acts());
  out->mutable_top_features()->Add(acts.top_features.begin(), acts.top_features.end());
  out->mutable_top_scores()->Add(acts.top_scores.begin(), acts.top_scores.end());
  out->set_l0(acts.l0);
  out->set_explained_variance(acts.explained_variance);
}

void ToProto(const MetricRow& row, v1::MetricPoint* out) {
  out->set_step(row.step);
  out->set_tokens(row.tokens);
  for (const auto& [name, value] : row.values) (*out->mutable_values())[name] = value;
}

void ToProto(const HistogramRow& row, v1::Histogram* out) {
  out->mutable_edges()->Add(row.edges.begin(), row.edges.end());
  out->mutable_counts()->Add(row.counts.begin(), row.counts.end());
}

void ToProto(const IndexInfoRow& row, v1::IndexInfo* out) {
  out->set_sae_id(row.sae_id);
  out->set_corpus_id(row.corpus_id);
  out->set_model_id(row.model_id);
  out->set_n_tokens(row.n_tokens);
  out->set_n_contexts(row.n_contexts);
  out->set_d_sae(row.d_sae);
  out->set_n_alive(row.n_alive);
  out->set_n_dead(row.n_dead);
  out->set_n_dense(row.n_dense);
  out->set_mean_l0(row.mean_l0);
  out->set_explained_variance(row.explained_variance);
  out->set_model_hash(row.model_hash);
  out->set_sae_hash(row.sae_hash);
  out->set_corpus_hash(row.corpus_hash);
  out->set_dtype(row.dtype);
  out->set_seed(row.seed);
  out->set_created(row.created);
  out->set_seconds(row.seconds);
  ToProto(row.log10_density, out->mutable_log10_density());
}

TextInput FromProto(const v1::TextInput& input) {
  TextInput out;
  out.no_bos = input.no_bos();
  if (input.has_token_ids()) {
    out.input =
        std::vector<uint32_t>(input.token_ids().ids().begin(), input.token_ids().ids().end());
  } else {
    out.input = input.text();
  }
  return out;
}

SparseActivations FromProto(const v1::SparseRows& rows) {
  SparseActivations out;
  out.row_offsets.assign(rows.row_offsets().begin(), rows.row_offsets().end());
  out.indices.assign(rows.indices().begin(), rows.indices().end());
  out.values.assign(rows.values().begin(), rows.values().end());
  out.n_cols = rows.n_cols();
  return out;
}

std::vector<ChatMessage> FromProto(
    const google::protobuf::RepeatedPtrField<v1::ChatMessage>& messages) {
  std::vector<ChatMessage> out;
  for (const v1::ChatMessage& message : messages) {
    out.push_back({message.role(), message.content()});
  }
  return out;
}

SamplingOptions FromProto(const v1::Sampling& sampling) {
  SamplingOptions out;
  out.temperature = sampling.temperature();
  out.top_k = sampling.top_k();
  out.top_p = sampling.top_p() == 0 ? 1 : sampling.top_p();
  out.frequency_penalty = sampling.frequency_penalty();
  out.presence_penalty = sampling.presence_penalty();
  out.seed = sampling.seed();
  return out;
}

}  // namespace featurescope
