// Random texts that are hard on tokenizers.
#pragma once

#include <random>
#include <string>
#include <vector>

namespace featurescope {

// Words, spaces, controls, scripts, broken UTF-8 and special tokens, mixed at random.
inline std::string HardText(std::mt19937* random) {
  static const auto* parts = new std::vector<std::string>{" ",
                                                          "  ",
                                                          "     ",
                                                          "\n",
                                                          "\t",
                                                          "\r\n",
                                                          std::string(1, '\0'),
                                                          "the",
                                                          "Hello",
                                                          "'ll",
                                                          "'",
                                                          "42",
                                                          "\u00e9",
                                                          "\u4e2d\u6587",
                                                          "\U0001f999",
                                                          "\u2581",
                                                          "\u2581\u2581",
                                                          "\ufffd",
                                                          "\ufeff",
                                                          "\u200d",
                                                          "\u0301",
                                                          "\u0120",
                                                          "\u3000",
                                                          "<s>",
                                                          "</s>",
                                                          "<unk>",
                                                          "<0x0A>",
                                                          "<|endoftext|>",
                                                          "<|end",
                                                          "\xff",
                                                          "\xc3",
                                                          "\xe2\x96",
                                                          "\xed\xa0\x80",
                                                          "\xf0\x9f",
                                                          "\xc0\x80",
                                                          "\x80",
                                                          "z"};
  std::string text;
  const size_t n = (*random)() % 12;
  for (size_t i = 0; i < n; ++i) {
    if ((*random)() % 8 == 0) {
      text.push_back(static_cast<char>((*random)()));
    } else {
      text += (*parts)[(*random)() % parts->size()];
    }
  }
  return text;
}

}  // namespace featurescope
