#include "server/model/config_reader.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/json.h"
#include "server/formats/utf8.h"

namespace featurescope {
namespace {

// What any HF config may carry besides its architecture: where it comes from, how it was trained
// and stored, what its task heads and its text generation do, how it is run.
constexpr absl::string_view kInertKeys[] = {
    // Origin.
    "_name_or_path", "name_or_path", "_commit_hash", "architectures", "model_type",
    "transformers_version", "transformers.js_config", "finetuning_task", "task_specific_params",
    "_from_model_config", "custom_pipelines",
    // Storage and execution.
    "torch_dtype", "dtype", "torchscript", "use_bfloat16", "use_cache", "cache_implementation",
    "attn_implementation", "_attn_implementation", "_attn_implementation_autoset",
    "_attn_implementation_internal", "_flash_attn_2_enabled", "use_flash_attention",
    "gradient_checkpointing", "output_attentions", "_output_attentions", "output_hidden_states",
    "output_past", "return_dict", "chunk_size_feed_forward", "tf_legacy_loss",
    // The numbers of a product cut into parts: the sum is the same.
    "pretraining_tp",
    // Training.
    "initializer_range", "attention_dropout", "hidden_dropout", "attn_pdrop", "embd_pdrop",
    "resid_pdrop", "classifier_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob",
    "problem_type",
    // Heads for other tasks: their weights would be refused.
    "num_labels", "_num_labels", "id2label", "label2id", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
    // Only attend when there is an encoder, which is refused.
    "is_decoder", "tie_encoder_decoder", "cross_attention_hidden_size",
    // Tokenization and generation.
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id",
    "decoder_start_token_id", "tokenizer_class", "prefix", "model_max_length",
    "tokenizer_model_max_length", "tokenizer_padding_side", "padding_side", "max_length",
    "max_new_tokens", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id",
    "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens"};

bool IsInert(absl::string_view key) {
  return std::find(std::begin(kInertKeys), std::end(kInertKeys), key) != std::end(kInertKeys) ||
         absl::StartsWith(key, "unsloth_");
}

// null, false, "", [] and {} are how configs say that something is not used.
bool SaysNothing(const nlohmann::json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return !value.is_number() && value.empty();
}

std::string Shortened(const nlohmann::json& value) {
  return PrintableUtf8(value.dump(-1, ' ', true), 100);
}

}  // namespace

bool ConfigReader::Has(absl::string_view key) const { return JsonFind(json_, key) != nullptr; }

const nlohmann::json* ConfigReader::Find(absl::string_view key) {
  Use(key);
  return JsonFind(json_, key);
}

absl::StatusOr<int64_t> ConfigReader::Int(absl::string_view key, int64_t lo, int64_t hi) {
  Use(key);
  return JsonInt(json_, key, what_, lo, hi);
}

absl::StatusOr<int64_t> ConfigReader::IntOr(absl::string_view key, int64_t otherwise, int64_t lo,
                                            int64_t hi) {
  Use(key);
  return JsonIntOr(json_, key, what_, otherwise, lo, hi);
}

absl::StatusOr<double> ConfigReader::Float(absl::string_view key, double lo, double hi) {
  Use(key);
  return JsonFloat(json_, key, what_, lo, hi);
}

absl::StatusOr<double> ConfigReader::FloatOr(absl::string_view key, double otherwise, double lo,
                                             double hi) {
  Use(key);
  return JsonFloatOr(json_, key, what_, otherwise, lo, hi);
}

absl::StatusOr<bool> ConfigReader::BoolOr(absl::string_view key, bool otherwise) {
  Use(key);
  return JsonBoolOr(json_, key, what_, otherwise);
}

absl::StatusOr<std::string> ConfigReader::StringOr(absl::string_view key,
                                                   absl::string_view otherwise) {
  Use(key);
  return JsonStringOr(json_, key, what_, otherwise);
}

absl::Status ConfigReader::Require(absl::string_view key, const nlohmann::json& harmless) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr || *value == harmless) return absl::OkStatus();
  return Unimplemented(
      what_, ": ", key, " = ", Shortened(*value), " is not supported",
      harmless.is_null() ? std::string() : absl::StrCat("; only ", harmless.dump()));
}

void ConfigReader::Ignore(std::initializer_list<absl::string_view> keys) {
  for (absl::string_view key : keys) Use(key);
}

absl::Status ConfigReader::CheckAllKnown() const {
  for (const auto& [key, value] : json_.items()) {
    if (used_.contains(key) || IsInert(key) || SaysNothing(value)) continue;
    return Unimplemented(what_, ": key \"", PrintableUtf8(key, 100), "\" = ", Shortened(value),
                         " is not known and may change what the model computes; remove it from the "
                         "file if it does not");
  }
  return absl::OkStatus();
}

}  // namespace featurescope
