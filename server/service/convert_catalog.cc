// The catalog's entries, and what is asked of it, between the contract and the core.
//
// Texts that come from files of others are made valid UTF-8: the contract's strings must be.
#include "server/base/status.h"
#include "server/catalog/sae_overrides.h"
#include "server/service/convert.h"
#include "server/service/status_conversion.h"

namespace featurescope {
namespace {

void AddAll(const std::vector<std::string>& texts,
            google::protobuf::RepeatedPtrField<std::string>* out) {
  for (const std::string& text : texts) *out->Add() = ValidUtf8(text);
}

template <typename T>
std::optional<T> Optional(bool has, T value) {
  return has ? std::optional<T>(std::move(value)) : std::nullopt;
}

absl::StatusOr<LoadSaeOptions> FromProto(const v1::SaeOverrides& overrides) {
  LoadSaeOptions out;
  out.apply_b_dec_to_input =
      Optional(overrides.has_apply_b_dec_to_input(), overrides.apply_b_dec_to_input());
  out.rescale_acts_by_decoder_norm = Optional(overrides.has_rescale_acts_by_decoder_norm(),
                                              overrides.rescale_acts_by_decoder_norm());
  out.norm_scaling_factor =
      Optional(overrides.has_norm_scaling_factor(), overrides.norm_scaling_factor());
  out.threshold = Optional(overrides.has_threshold(), overrides.threshold());
  out.k = Optional<int64_t>(overrides.has_k(), overrides.k());
  if (overrides.has_normalize_activations()) {
    out.normalize_activations = FindNormalizeActivations(overrides.normalize_activations());
    if (!out.normalize_activations) {
      return InvalidField("overrides.normalize_activations", "normalize_activations is \"",
                          overrides.normalize_activations(),
                          "\", it must be none, expected_average_only_in, constant_norm_rescale or "
                          "layer_norm");
    }
  }
  if (overrides.has_selection()) {
    const std::optional<SaeSelection> selection = FindSaeSelection(overrides.selection());
    if (!selection) {
      return InvalidField("overrides.selection", "selection is \"", overrides.selection(),
                          "\", it must be as_stored, per_token, threshold or whole_batch");
    }
    out.selection = *selection;
  }
  return out;
}

}  // namespace

void ToProto(const ModelRow& row, bool loaded, absl::string_view dtype, v1::Model* out) {
  out->set_id(row.id);
  out->set_architecture(row.architecture);
  out->set_n_layers(row.n_layers);
  out->set_d_model(row.d_model);
  out->set_n_heads(row.n_heads);
  out->set_d_head(row.d_head);
  out->set_d_mlp(row.d_mlp);
  out->set_d_vocab(row.d_vocab);
  out->set_n_ctx(row.n_ctx);
  out->set_n_parameters(row.n_parameters);
  out->set_has_tokenizer(row.has_tokenizer);
  out->set_prepend_bos(row.prepend_bos);
  out->set_loaded(loaded);
  out->set_hash(row.hash);
  for (const std::string& name : row.hook_names) out->add_hook_names(name);
  out->set_path(ValidUtf8(row.path));
  out->set_dtype(std::string(dtype));
  out->set_tokenizer(row.tokenizer_kind);
  out->set_has_chat_template(row.has_chat_template);
  out->set_source(ValidUtf8(row.source));
  AddAll(row.warnings, out->mutable_warnings());
}

void ToProto(const SaeRow& row, v1::Sae* out) {
  out->set_id(row.id);
  out->set_model_id(row.model_id);
  out->set_hook_name(row.hook_name);
  out->set_architecture(row.architecture);
  out->set_d_in(row.d_in);
  out->set_d_sae(row.d_sae);
  out->set_k(row.k);
  out->set_apply_b_dec_to_input(row.apply_b_dec_to_input);
  out->set_normalize_activations(row.normalize_activations);
  out->set_hash(row.hash);
  out->set_path(ValidUtf8(row.path));
  out->set_format(ValidUtf8(row.format));
  out->set_context_size(row.context_size);
  out->set_prepend_bos(row.prepend_bos);
  out->set_vectors_only(row.vectors_only);
  out->set_training_job_id(row.training_job_id);
  out->set_d_out(row.d_out);
  out->set_hook_name_out(row.hook_name_out);
  out->set_file_dtype(row.file_dtype);
  out->set_activation(row.activation);
  out->set_prepend_bos_known(row.prepend_bos_known);
  AddAll(row.folds, out->mutable_folds());
  AddAll(row.warnings, out->mutable_warnings());
  out->set_center_writing_weights(row.center_writing_weights);
  out->set_trained_on(ValidUtf8(row.trained_on));
  out->set_source(ValidUtf8(row.source));
  AddAll(row.notes, out->mutable_notes());
}

void ToProto(const CorpusRow& row, v1::Corpus* out) {
  out->set_id(row.id);
  out->set_model_id(row.model_id);
  out->set_context_size(row.context_size);
  out->set_n_tokens(row.n_tokens);
  out->set_n_documents(row.n_documents);
  out->set_n_contexts(row.n_contexts);
  out->set_prepend_bos(row.prepend_bos);
  out->set_hash(row.hash);
  out->set_tokenizer_hash(row.tokenizer_hash);
  out->set_n_heldout_contexts(row.n_heldout_contexts);
  out->set_n_heldout_tokens(row.n_heldout_tokens);
  out->set_layout(row.layout);
  AddAll(row.formats, out->mutable_formats());
}

void ToProto(const SaeRelease& release, v1::SaeRelease* out) {
  out->set_name(release.name);
  out->set_repo(release.repo);
  out->set_model(release.model);
  if (!release.ids.empty()) out->set_example_id(release.ids.front().id);
  out->set_center_writing_weights(release.options.center_writing_weights);
  out->set_note(release.options.note.empty()
                    ? release.about
                    : absl::StrCat(release.about, ". ", release.options.note));
}

absl::StatusOr<AddSaeOptions> FromProto(const v1::AddSaeRequest& request) {
  AddSaeOptions options;
  options.model_id = request.model_id();
  options.hook_name = request.hook_name();
  options.hook_name_out = request.overrides().hook_name_out();
  options.any_width = request.any_width();
  options.center_writing_weights =
      Optional(request.has_center_writing_weights(), request.center_writing_weights());
  ASSIGN_OR_RETURN(options.load, FromProto(request.overrides()));
  return options;
}

absl::StatusOr<AddCorpusOptions> FromProto(const v1::AddCorpusRequest& request) {
  AddCorpusOptions options;
  options.paths.assign(request.paths().begin(), request.paths().end());
  options.model_id = request.model_id();
  options.context_size = request.context_size();
  if (!request.text_field().empty()) options.text_field = request.text_field();
  options.no_bos = request.no_bos();
  if (!request.document_format().empty()) {
    auto format = ParseDocumentFormat(request.document_format());
    if (!format.ok()) return InvalidField("document_format", format.status().message());
    options.format = *format;
  }
  options.text_separator = request.text_separator();
  options.csv_quotes = !request.no_csv_quotes();
  if (!request.layout().empty()) {
    auto layout = ParseContextLayout(request.layout());
    if (!layout.ok()) return InvalidField("layout", layout.status().message());
    options.layout = *layout;
  }
  options.append_eos = request.append_eos();
  options.holdout = request.heldout_fraction();
  return options;
}

void ToProto(const CorpusBuildProgress& progress, v1::AddCorpusResponse* out) {
  out->set_bytes_read(progress.file_bytes_read);
  out->set_bytes_total(progress.file_bytes_total);
  out->set_n_tokens(progress.n_tokens);
  out->set_n_documents(progress.n_documents);
  out->set_tokens_per_second(progress.tokens_per_second());
}

void ToProto(const CorpusSummary& summary, v1::AddCorpusResponse* out) {
  out->set_n_skipped_files(summary.n_skipped_files);
  AddAll(summary.skipped_files, out->mutable_skipped_files());
  out->set_n_empty_documents(summary.n_empty_documents);
  out->set_n_dropped_tokens(summary.n_dropped_tokens);
}

}  // namespace featurescope
