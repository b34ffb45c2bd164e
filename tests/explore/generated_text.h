// What a Generate call streamed, put together.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "server/explore/generate.h"

namespace featurescope {

struct GeneratedText {
  std::vector<Token> prompt;
  std::map<Branch, std::vector<GeneratedToken>> tokens;
  std::map<Branch, GenerateFinished> finished;

  std::vector<uint32_t> ids(Branch branch) const {
    std::vector<uint32_t> ids;
    if (!tokens.contains(branch)) return ids;
    for (const GeneratedToken& token : tokens.at(branch)) ids.push_back(token.chosen.token.id);
    return ids;
  }
  std::string text(Branch branch) const {
    std::string text;
    for (const GeneratedToken& token : tokens.at(branch)) text += token.chosen.token.bytes;
    return text;
  }
};

inline absl::Status GenerateInto(const GenerateRequest& request, DeviceWorker& worker,
                                 GeneratedText* text) {
  return Generate(request, worker, [text](const GenerateEvent& event) {
    if (const auto* started = std::get_if<GenerateStarted>(&event)) {
      text->prompt = started->prompt;
    } else if (const auto* token = std::get_if<GeneratedToken>(&event)) {
      EXPECT_FALSE(text->finished.contains(token->branch));
      text->tokens[token->branch].push_back(*token);
    } else {
      const auto& finished = std::get<GenerateFinished>(event);
      text->finished[finished.branch] = finished;
    }
    return true;
  });
}

inline GeneratedText GenerateOrDie(const GenerateRequest& request) {
  DeviceWorker worker({});
  GeneratedText text;
  const absl::Status status = GenerateInto(request, worker, &text);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(text.finished.size(), request.with_baseline ? 2u : 1u);
  return text;
}

}  // namespace featurescope
