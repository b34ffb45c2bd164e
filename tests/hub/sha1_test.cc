#include "server/hub/sha1.h"

#include <gtest/gtest.h>

#include <string>

namespace featurescope {
namespace {

std::string Sha1Hex(absl::string_view bytes) {
  Sha1 sha;
  sha.Update(bytes);
  return sha.HexDigest();
}

// FIPS 180-4's own examples.
TEST(Sha1Test, GivesThePublishedDigests) {
  EXPECT_EQ(Sha1Hex(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(Sha1Hex("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(Sha1Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(Sha1Hex(std::string(1000000, 'a')), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

// `printf 'hello\n' | git hash-object --stdin`
TEST(Sha1Test, GivesTheHashOfAGitBlob) {
  EXPECT_EQ(Sha1Hex(std::string("blob 6\0hello\n", 13)),
            "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(Sha1Test, IsTheSameForEverySplitOfTheInput) {
  std::string text;
  for (int i = 0; i < 200; ++i) text.push_back(static_cast<char>(i));
  const std::string whole = Sha1Hex(text);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Sha1 sha;
    sha.Update(absl::string_view(text).substr(0, cut));
    sha.Update(absl::string_view(text).substr(cut));
    EXPECT_EQ(sha.HexDigest(), whole) << "cut at " << cut;
  }
}

}  // namespace
}  // namespace featurescope
