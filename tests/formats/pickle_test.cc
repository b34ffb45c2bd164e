#include "server/formats/pickle.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/formats/pickle_bytes.h"

namespace featurescope {
namespace {

using ::testing::HasSubstr;
using Kind = PickleNode::Kind;

constexpr absl::string_view kAllowed[] = {"collections.OrderedDict", "a.b"};

absl::StatusOr<Pickle> Parse(const std::string& bytes) {
  return ParsePickle(bytes, "file", kAllowed);
}
std::string Error(const std::string& bytes) {
  const auto pickle = Parse(bytes);
  return pickle.ok() ? "it is read" : std::string(pickle.status().message());
}
// The one value that `opcodes` push.
PickleNode Value(const std::string& opcodes) {
  const auto pickle = Parse(Pickled(opcodes));
  EXPECT_TRUE(pickle.ok()) << pickle.status();
  return pickle.ok() ? (*pickle)[pickle->root] : PickleNode();
}

TEST(PickleTest, NumbersOfAllWidthsAreRead) {
  EXPECT_EQ(Value(Bytes("K\xff")).integer, 255);
  EXPECT_EQ(Value(Bytes("M\xff\xff")).integer, 65535);
  EXPECT_EQ(Value(Bytes("J\xfe\xff\xff\xff")).integer, -2);
  EXPECT_EQ(Value(Bytes("\x8a\x00")).integer, 0);
  EXPECT_EQ(Value(Bytes("\x8a\x01\xff")).integer, -1);
  EXPECT_EQ(Value(Bytes("\x8a\x02\xff\x00")).integer, 255);
  EXPECT_EQ(Value(Bytes("\x8b\x01\x00\x00\x00\x80")).integer, -128);
  EXPECT_EQ(Value(Bytes("\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80")).integer, INT64_MIN);
  EXPECT_EQ(Value(Bytes("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00")).kind, Kind::kLong);
  EXPECT_EQ(Value(Bytes("G\x3f\xe8\x00\x00\x00\x00\x00\x00")).real, 0.75);
  EXPECT_EQ(Value("\x88").integer, 1);
  EXPECT_EQ(Value("\x89").kind, Kind::kBool);
  EXPECT_EQ(Value("N").kind, Kind::kNone);
}

TEST(PickleTest, TextsAndBytesOfAllLengthsAreRead) {
  EXPECT_EQ(Value(Bytes("X\x02\x00\x00\x00hi")).text, "hi");
  EXPECT_EQ(Value(Bytes("\x8c\x02hi")).text, "hi");
  EXPECT_EQ(Value(Bytes("\x8d\x02\x00\x00\x00\x00\x00\x00\x00hi")).text, "hi");
  EXPECT_EQ(Value(Bytes("U\x02hi")).text, "hi");
  EXPECT_EQ(Value(Bytes("C\x02\xff\x00")).text, Bytes("\xff\x00"));
  EXPECT_EQ(Value(Bytes("B\x01\x00\x00\x00\xff")).kind, Kind::kBytes);
  EXPECT_THAT(Error(Pickled(Bytes("X\x01\x00\x00\x00\xff"))), HasSubstr("no UTF-8"));
}

TEST(PickleTest, ContainersAreBuilt) {
  EXPECT_EQ(Value(")").kind, Kind::kTuple);
  EXPECT_EQ(Value("N\x85").children.size(), 1u);
  EXPECT_EQ(Value("NN\x86").children.size(), 2u);
  EXPECT_EQ(Value("NNN\x87").children.size(), 3u);
  EXPECT_EQ(Value("(NNNNt").children.size(), 4u);
  EXPECT_EQ(Value("]Na(NNe").children.size(), 3u);
  EXPECT_EQ(Value("}NNs(NNNNu").children.size(), 6u);
}

TEST(PickleTest, NotedValuesAreSharedNotCopied) {
  const PickleNode first = Value(Bytes("]q\x05h\x05\x86"));
  EXPECT_EQ(first.children[0], first.children[1]);
  const PickleNode pair = Value(Bytes("N]r\x00\x01\x00\x00j\x00\x01\x00\x00\x87"));
  EXPECT_EQ(pair.children[1], pair.children[2]);
  const PickleNode memoized = Value(Bytes("]\x94h\x00\x86"));
  EXPECT_EQ(memoized.children[0], memoized.children[1]);
  EXPECT_THAT(Error(Pickled(Bytes("h\x00"))), HasSubstr("never noted"));
  EXPECT_THAT(Error(Pickled(Bytes("q\x00N"))), HasSubstr("stack"));
}

TEST(PickleTest, CallsBecomeNodesAndNothingIsCalled) {
  const auto pickle = Parse(Pickled("ca\nb\n(NNtRNNs}b"));
  ASSERT_TRUE(pickle.ok()) << pickle.status();
  const PickleNode& call = (*pickle)[pickle->root];
  EXPECT_EQ(call.kind, Kind::kCall);
  EXPECT_EQ((*pickle)[call.children[0]].text, "a.b");
  EXPECT_EQ((*pickle)[call.children[1]].children.size(), 2u);
  EXPECT_EQ(call.children.size(), 4u);
  EXPECT_EQ((*pickle)[call.state].kind, Kind::kDict);
  EXPECT_EQ(Value("ca\nb\n)\x81").kind, Kind::kCall);
  EXPECT_EQ(Value("\x8c\x01"
                  "a\x8c\x01"
                  "b\x93)R")
                .kind,
            Kind::kCall);
}

TEST(PickleTest, OtherGlobalsAreRefusedByTheirNames) {
  for (const char* global :
       {"os\nsystem", "posix\nsystem", "builtins\neval", "__builtin__\nexec", "subprocess\nPopen",
        "a.b\nc", "a\nb.c", "\n", "collections\norderedDict", "torch.storage\n_load_from_bytes"}) {
    std::string name = global;
    name[name.find('\n')] = '.';
    EXPECT_THAT(Error(Pickled("c" + std::string(global) + "\n)R")),
                HasSubstr("refers to " + name + ", which is not allowed"));
  }
  EXPECT_THAT(Error(Pickled("\x8c\x02os\x8c\x06system\x93)R")), HasSubstr("os.system"));
  EXPECT_THAT(Error(Pickled("c" + std::string(1000, 'm') + "\nx\n")), HasSubstr("more than 256"));
}

TEST(PickleTest, OtherOpcodesAreRefused) {
  std::string used =
      "(.NJKMGTUXBC)t]ae}scuRbQhjqr\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x93\x94\x95";
  for (int opcode = 0; opcode < 256; ++opcode) {
    if (used.find(static_cast<char>(opcode)) != std::string::npos) continue;
    EXPECT_THAT(Error(Pickled("NN" + std::string(1, static_cast<char>(opcode)))),
                HasSubstr("is not allowed"))
        << opcode;
  }
}

TEST(PickleTest, TheStackIsNeverLeft) {
  const char* programs[] = {
      "",  "NN",  "\x85", "N\x86",     "NN\x87", "t",    "(N(t\x86", "a",     "]a",    "(a",
      "e", "(Ne", "N(Ne", "s",         "}s",     "}Ns",  "(Nu",      "}(Nu",  "N(NNu", "u",
      "R", ")R",  "N)R",  "ca\nb\nNR", "b",      "Nb",   "}Nb",      "Q",     "]N",    "](N",
      "(", "N(",  "N(Na", "]N(s",      "(NQt(",  "\x93", "N\x93",    "NN\x93"};
  for (const char* program : programs) {
    EXPECT_FALSE(Parse(Pickled(program)).ok()) << program;
  }
}

TEST(PickleTest, TruncationsAreRefusedAtEveryByte) {
  const std::string whole = Pickled(PickledDict({{"a", PickledTensor({2, 3}, {3, 1})}}));
  const absl::string_view allowed[] = {"torch._utils._rebuild_tensor_v2", "torch.FloatStorage",
                                       "collections.OrderedDict"};
  ASSERT_TRUE(ParsePickle(whole, "file", allowed).ok());
  EXPECT_EQ(ParsePickle(whole + "more", "file", allowed)->bytes, whole.size());
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_FALSE(ParsePickle(whole.substr(0, n), "file", allowed).ok()) << n;
  }
}

TEST(PickleTest, LengthsAreComparedBeforeMemoryIsTaken) {
  EXPECT_THAT(Error(Pickled(Bytes("X\xff\xff\xff\xff"))),
              HasSubstr("4294967295 more were expected"));
  EXPECT_FALSE(Parse(Pickled(Bytes("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"))).ok());
  EXPECT_FALSE(Parse(Pickled(Bytes("\x8b\xff\xff\xff\x7f"))).ok());
  EXPECT_THAT(Error("\x80\x02" + std::string(kMaxPickleNodes + 1, 'N')),
              HasSubstr("more than 1048576 values"));
  EXPECT_THAT(Error("\x80\x02" + std::string(5000, '(')), HasSubstr("open marks"));
}

TEST(PickleTest, ProtocolsBefore2AndAfter5AreRefused) {
  EXPECT_THAT(Error("N."), HasSubstr("PROTO"));
  EXPECT_THAT(Error("\x80\x01N."), HasSubstr("protocol 1"));
  EXPECT_THAT(Error("\x80\x06N."), HasSubstr("protocol 6"));
  EXPECT_TRUE(Parse("\x80\x05N.").ok());
}

}  // namespace
}  // namespace featurescope
