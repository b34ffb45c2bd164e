// Random texts of valid UTF-8 with characters of every class that patterns speak of.
#pragma once

#include <random>
#include <string>

#include "server/text/characters.h"

namespace featurescope {

// Characters that all libraries at hand know alike.
inline std::string UnicodeText(std::mt19937* random) {
  static constexpr const char32_t* kClasses[] = {
      U"abcxyzABCXYZ",
      U"'''stmdrvelSTMDRVEL\u017f",
      U"0123456789",
      U"      \t\n\r\n\v\f\u0085\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000",
      U"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
      U"\u00e9\u00df\u0130\u01c5\u0434\u1112\ud55c\u0905\u0e01",
      U"\u4e2d\u6587\u9fa5\u9fa6\u3042\u30ab\u30fb\u30ff",
      U"\u00b2\u00bd\u0663\u2160\u2460\u3007\u0967",
      U"\u0301\u0323\u093f\u0e33\u20dd\ufe0f",
      U"\u2019\u00ab\u3001\uff01\u2014\u203f\u00a7\u0964",
      U"\u00a9\u20ac\u2103\u2192\U0001f999\u00b4\u00ac",
      U"\u200b\u200d\u180e\ufeff\u00ad\u0001\u007f\ue000\U000e0041\u0378"};
  std::string text;
  for (size_t n = (*random)() % 24; n > 0; --n) {
    const std::u32string_view members = kClasses[(*random)() % std::size(kClasses)];
    const char32_t code = members[(*random)() % members.size()];
    for (size_t repeat = (*random)() % 5 == 0 ? 1 + (*random)() % 4 : 1; repeat > 0; --repeat) {
      AppendUtf8(code, &text);
    }
    if ((*random)() % 16 == 0) AppendUtf8((*random)() % 0x530, &text);
  }
  return text;
}

}  // namespace featurescope
