// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// A dollar that signs as USDC does: its domain's version is 2, and it is older than EIP-5267, so that its holders know
/// the domain by name() and version(). For tests/contracts/test_tokens.py.
contract OldUSD is ERC3009 {
    string public constant version = "2";

    constructor() ERC20("USD Coin", "USDC") EIP712("USD Coin", version) {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function eip712Domain()
        public
        pure
        override
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        revert(); // as what is not there does
    }
}
