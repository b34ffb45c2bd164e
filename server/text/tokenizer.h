// Tokenizers: text to token ids and back, exactly as the model's own tokenizer does it.
//
// Text is bytes. Bytes that are no valid UTF-8 are encoded byte by byte, so that
// Decode(Encode(x)) == x for every x.
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

// Immutable; all methods are const and thread-safe.
class Tokenizer {
 public:
  // Reads tokenizer.json where there is one, else tokenizer.model, from a model's directory;
  // tokenizer_config.json and config.json beside them say what BOS and EOS are.
  //
  //   NotFound         neither file is there
  //   Unimplemented    a kind of tokenizer that is not supported, by name
  //   InvalidArgument  a bad file
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(absl::string_view dir);

  virtual ~Tokenizer() = default;

  // Token ids of `text`, without BOS. With `parse_special`, special tokens written out in the text
  // ("<|endoftext|>") become their ids, as in HF; without, they are text like any other.
  // Fails only on texts of more than kMaxTextBytes (InvalidArgument).
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
  // Whether texts get BOS in front by default. REQUIRES for true: bos_id() is set.
  bool adds_bos() const { return adds_bos_; }
  // SHA-256 of the tokenizer's file.
  const std::string& hash() const { return hash_; }

 protected:
  virtual absl::StatusOr<std::vector<uint32_t>> EncodeText(absl::string_view text,
                                                           bool parse_special) const = 0;

  std::optional<uint32_t> bos_id_;
  std::optional<uint32_t> eos_id_;
  bool adds_bos_ = false;
  std::string hash_;
};

// One call of Encode takes at most this much text.
constexpr uint64_t kMaxTextBytes = 256u << 20;
// Merging takes some hundred bytes of memory for a byte of a word: a longer word is cut here,
// losing nothing but the merges across the cut.
constexpr size_t kMaxWordBytes = 1u << 20;

}  // namespace featurescope
