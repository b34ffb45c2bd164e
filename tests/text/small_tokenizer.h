// A tokenizer.json with the byte alphabet as ids 0 to 255, two merges (256 "he", 257 " he") and two
// added tokens (258 "<|end|>", 259 "<tool>", which is not special) behind it.
#pragma once

#include <cstdint>
#include <string>

#include "nlohmann/json.hpp"
#include "server/text/byte_alphabet.h"

namespace featurescope {

inline nlohmann::json SmallTokenizer() {
  using Json = nlohmann::json;
  Json vocab = Json::object();
  for (uint32_t byte = 0; byte < 256; ++byte) {
    vocab[std::string(ByteCharacter(static_cast<uint8_t>(byte)))] = byte;
  }
  vocab["he"] = 256;
  vocab["\u0120he"] = 257;
  Json json;
  json["added_tokens"] = Json::array({{{"id", 258}, {"content", "<|end|>"}, {"special", true}},
                                      {{"id", 259}, {"content", "<tool>"}, {"special", false}}});
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  json["post_processor"] = nullptr;
  json["decoder"] = {{"type", "ByteLevel"}};
  json["model"] = {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h e", "\u0120 he"}}};
  return json;
}

}  // namespace featurescope
