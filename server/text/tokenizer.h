// Tokenizers: text to token ids and back, exactly as the model's own tokenizer does it.
//
// Text is bytes. Bytes that are no valid UTF-8 are encoded byte by byte where the model can, so
// that with most tokenizers (keeps_text) Decode(Encode(x)) == x for every x.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace featurescope {

class ChatTemplate;
struct ChosenSpecialTokens;

// Immutable; all methods are const and thread-safe.
class Tokenizer {
 public:
  // Reads tokenizer.json where there is one, else tokenizer.model, from a model's directory; the
  // files beside them say what BOS and EOS are (server/text/special_tokens.h) and how
  // conversations are written (chat_template).
  //
  //   NotFound         neither file is there
  //   Unimplemented    a kind of tokenizer that is not supported, by name
  //   InvalidArgument  a bad file
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(absl::string_view dir);

  virtual ~Tokenizer() = default;

  // Token ids of `text`, without BOS. With `parse_special`, special tokens written out in the text
  // ("<|endoftext|>") become their ids, as in HF; without, they are text like any other.
  //
  //   InvalidArgument    the text has more than kMaxTextBytes
  //   ResourceExhausted  a regular expression of the tokenizer's file cannot be run on this text
  absl::StatusOr<std::vector<uint32_t>> Encode(absl::string_view text,
                                               bool parse_special = true) const;

  // The bytes that `ids` stand for, special tokens as their text. An id >= vocab_size() gives
  // nothing.
  virtual std::string Decode(absl::Span<const uint32_t> ids) const = 0;

  // The bytes of one token, as in the middle of a text. Empty for an id that has no token.
  virtual std::string TokenBytes(uint32_t id) const = 0;

  // One more than the highest id.
  virtual uint32_t vocab_size() const = 0;
  // BOS, EOS, padding and the like.
  virtual bool IsSpecial(uint32_t id) const = 0;

  std::optional<uint32_t> bos_id() const { return bos_id_; }
  std::optional<uint32_t> eos_id() const { return eos_id_; }
  // All tokens that end what the model generates, eos_id() among them; ascending.
  const std::vector<uint32_t>& eos_ids() const { return eos_ids_; }
  // Whether texts get BOS in front by default. REQUIRES for true: bos_id() is set.
  bool adds_bos() const { return adds_bos_; }
  // Whether Decode(Encode(text)) == text for every text. Others normalise texts, or put a space in
  // front of them.
  bool keeps_text() const { return keeps_text_; }
  // How conversations with the model are written (server/text/chat_template.h, which applies it).
  //
  //   FailedPrecondition  the model comes without a template
  //   Unimplemented, InvalidArgument  with one that cannot be used
  const absl::StatusOr<std::shared_ptr<const ChatTemplate>>& chat_template() const {
    return chat_template_;
  }
  // SHA-256 of the tokenizer's file.
  const std::string& hash() const { return hash_; }

 protected:
  void SetSpecialTokens(const ChosenSpecialTokens& chosen);
  virtual absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view text,
                                                           bool parse_special) const = 0;

  std::optional<uint32_t> bos_id_;
  std::optional<uint32_t> eos_id_;
  std::vector<uint32_t> eos_ids_;
  bool adds_bos_ = false;
  bool keeps_text_ = false;
  absl::StatusOr<std::shared_ptr<const ChatTemplate>> chat_template_ =
      absl::FailedPreconditionError("the tokenizer was not loaded with a chat template");
  std::string hash_;
};

// One call of Encode takes at most this much text.
constexpr uint64_t kMaxTextBytes = 256u << 20;
// Merging takes some hundred bytes of memory for a byte of a word: a longer word is cut here,
// losing nothing but the merges across the cut.
constexpr size_t kMaxWordBytes = 1u << 20;

}  // namespace featurescope
