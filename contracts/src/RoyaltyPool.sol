// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {Ledger} from "./Ledger.sol";
import {RecipeRegistry} from "./RecipeRegistry.sol";

/// @title Where one recipe version's royalty is paid, to be divided. Each version has a clone of this.
contract RoyaltyPool {
    using SafeERC20 for IERC20;

    RecipeRegistry public immutable recipes;
    Ledger public immutable ledger;

    /// The registry can't be asked for its Ledger while it is being made.
    constructor(RecipeRegistry recipes_, Ledger ledger_) {
        (recipes, ledger) = (recipes_, ledger_);
    }

    /// @notice Collect the version's royalty and credit everything held here to its authors and its parent. Anybody may
    /// call it.
    function distribute() external {
        uint32 recipe = abi.decode(Clones.fetchCloneArgs(address(this)), (uint32));
        ledger.collect(recipes.versionOf(recipe).payee);
        IERC20 token = ledger.token();
        uint256 held = token.balanceOf(address(this));
        token.forceApprove(address(ledger), held);
        // The Ledger takes no more than 2^96 base units anyway.
        ledger.award(recipes.divide(recipe, uint96(held)));
    }
}
