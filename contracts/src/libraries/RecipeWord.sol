// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Who shares in a line that names a recipe, in one slot, immutable once written:
///
///     author payee 32 | royalty bps 16 | verifier bps 16 | registered 8        (from the low end)
type RecipeWord is uint256;

using {author, royaltyBps, verifierBps, registered, shares} for RecipeWord global;

uint256 constant BPS = 10_000;
uint256 constant FEE_BPS = 100;

function recipeWord(uint32 author_, uint16 royaltyBps_, uint16 verifierBps_) pure returns (RecipeWord) {
    return RecipeWord.wrap(
        uint256(author_) | (uint256(royaltyBps_) << 32) | (uint256(verifierBps_) << 48) | (uint256(1) << 64)
    );
}

function author(RecipeWord self) pure returns (uint256) {
    return uint32(RecipeWord.unwrap(self));
}

function royaltyBps(RecipeWord self) pure returns (uint256) {
    return uint16(RecipeWord.unwrap(self) >> 32);
}

function verifierBps(RecipeWord self) pure returns (uint256) {
    return uint16(RecipeWord.unwrap(self) >> 48);
}

function registered(RecipeWord self) pure returns (bool) {
    return RecipeWord.unwrap(self) >> 64 != 0;
}

/// What a line's amount gives to others than the provider, each rounded down; the remainder is the provider's.
function shares(RecipeWord self, uint256 amount) pure returns (uint256 fee, uint256 verifierShare, uint256 royalty) {
    // An amount has 96 bits and a rate 16, so no product overflows.
    unchecked {
        fee = amount * FEE_BPS / BPS;
        verifierShare = amount * self.verifierBps() / BPS;
        royalty = amount * self.royaltyBps() / BPS;
    }
}
